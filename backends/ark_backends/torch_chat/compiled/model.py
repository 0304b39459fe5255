"""A decoder's weights as the kernels want them, and the passes over its sequences."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from ark_backends.torch_chat.attention import Piece
from ark_backends.torch_chat.compiled import tasks
from ark_backends.torch_chat.compiled.block import BLOCK_TAKES, attend_block
from ark_backends.torch_chat.compiled.cache import address, again
from ark_backends.torch_chat.compiled.kernels import compute
from ark_backends.torch_chat.compiled.packing import Arena, Packed, interleaved, packed
from ark_backends.torch_chat.compiled.products import GROUP_BYTES, MARKS, TAKES, multiply
from ark_backends.torch_chat.compiled.simd import LANES, VECTOR
from ark_backends.torch_chat.compiled.tables import (
    FIRST,
    GROUP,
    KEYS,
    LINEARS,
    OPEN,
    PAIRS,
    PART,
    PAST,
    PHASES,
    ROWS,
    STATE,
    WRITE,
    Inputs,
    Model,
    Work,
)
from ark_backends.torch_chat.compiled.team import Team
from ark_backends.torch_chat.int8 import Rounded
from ark_backends.torch_chat.stored import StoredLinear, StoredWeight, rounded_weight
from ark_backends.torch_chat.structure import LinearPart, Structure

log = logging.getLogger("ark.torch_chat")

TASKS = 8
"""Tasks for each thread that a linear layer is cut into, where it has the outputs."""

NOTICED = 2.0
"""Seconds of compiling from which on a line says what took so long."""

ROOM = 4
"""Rows that there is room for at first."""


class CompiledModel:
    """Computes the logits of packed sequences. Used on one thread, which others help."""

    def __init__(
        self, structure: Structure, windows: Sequence[int | None], threads: int, *, quantized: bool = False
    ) -> None:
        """Take the weights over, one layer after another. `threads` in all compute."""
        self.vocabulary = structure.vocabulary
        self._arena = Arena()
        self._team = Team(threads)
        self._ropes = structure.ropes
        self._final_softcap = structure.final_softcap
        self._embedding_scale = structure.embedding_scale
        self._layers = [self._packed(part, quantized) for part in structure.linears()]
        # A copy, because a tensor of a mapped file keeps all of the file. The head in 8 bits does for both.
        self._embedding = None if structure.tied and quantized else _smallest(structure.embedding)
        self._model, self._arrays = self._tables(structure, windows)
        self._room: tuple[int, ...] = (ROOM, 1, 1, 1)
        self._work = self._made(*self._room)
        self._compute = self._compiled()

    def rows(self, pieces: Sequence[Piece], wanted: Sequence[int]) -> torch.Tensor:
        """Logits (len(wanted), vocabulary), float32, after the tokens at these places among those of all pieces, in
        ascending order. Keys and values are written behind the length of each sequence, which is left to the caller to
        raise. Raises ValueError where a sequence has no room for them."""
        counts = [len(piece.token_ids) for piece in pieces]
        starts = np.cumsum([0, *counts[:-1]])
        columns = [(p.kv.data.data_ptr(), p.kv.stride, p.kv.length) for p in pieces]
        sequences = np.array([(*c, s, n) for c, s, n in zip(columns, starts, counts, strict=True)], dtype=np.int64)
        if any(piece.kv.length + count > piece.kv.capacity for piece, count in zip(pieces, counts, strict=True)):
            # The kernels write where they are told.
            raise ValueError("a sequence has no room for more tokens")
        owners = np.repeat(np.arange(len(pieces)), counts)
        places = np.arange(len(owners)) - (sequences[:, FIRST] - sequences[:, PAST])[owners]
        longest = int(places.max())
        ids = torch.tensor([token for piece in pieces for token in piece.token_ids])
        with torch.inference_mode():
            turns = [rope.at(torch.from_numpy(places), longest) for rope in self._ropes]
            embedded = self._embedded(ids)
            if self._embedding_scale != 1.0:
                embedded *= self._embedding_scale
        work, arrays = self._work_for(len(owners), len(wanted), len(pieces), longest // PART + 1)
        arrays["x"][: len(owners), : embedded.shape[1]] = embedded.numpy()
        # A row that was not finite leaves what is no number there, for the next one in its place.
        arrays["x"][: len(owners), embedded.shape[1] :] = 0.0
        logits = _aligned((len(wanted), LANES * self._layers[-1].tiles))
        chosen = np.zeros(len(owners), dtype=np.int64)
        chosen[wanted] = 1
        held = {
            "sequences": sequences,
            "owners": owners,
            "wanted": np.asarray(wanted, dtype=np.int64),
            "chosen": chosen,
            "cosine": np.stack([cosine[:, 0].numpy() for cosine, _ in turns]),
            "sine": np.stack([sine[:, 0].numpy() for _, sine in turns]),
            "logits": logits,
            "counters": tasks.made(PHASES * len(self._layers)),
        }
        inputs = Inputs(rows=len(owners), sequence_count=len(pieces), wanted_count=len(wanted), **_addresses(held))
        self._team.run(self._compute, self._model, work, inputs, held=(self, arrays, held))
        found = torch.from_numpy(logits)[:, : self.vocabulary]
        if self._final_softcap:
            found = torch.tanh(found / self._final_softcap) * self._final_softcap
        return found

    @property
    def linears(self) -> int:
        return len(self._layers)

    def attend_to(self, windows: Sequence[int | None]) -> None:
        """Let each layer see so many tokens, None for all."""
        self._arrays["windows"][:] = [window or 0 for window in windows]

    def _embedded(self, ids: torch.Tensor) -> torch.Tensor:
        if isinstance(self._embedding, torch.Tensor):
            return self._embedding.index_select(0, ids).float()
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < self.vocabulary:
            raise IndexError("an id is none of the vocabulary")
        if self._embedding is not None:
            return self._embedding.select(ids)
        return torch.from_numpy(self._layers[-1].rows(ids.numpy()))

    def _packed(self, part: LinearPart, quantized: bool) -> Packed:
        bias = None
        if any(module.bias is not None for module in part.modules):
            none = [torch.zeros(module.out_features) for module in part.modules]
            biases = [n if m.bias is None else m.bias.detach() for m, n in zip(part.modules, none, strict=True)]
            bias = interleaved(*biases) if part.gated else torch.cat([one.float() for one in biases])
        join = interleaved if part.gated else lambda *parts: torch.cat(parts)
        weight: torch.Tensor | Rounded
        if quantized:
            made = [rounded_weight(module) for module in part.modules]
            weight = Rounded(join(*(one.steps for one in made)), join(*(one.scale for one in made)))
        else:
            weight = join(*(module.weight.detach() for module in part.modules))
        for module in part.modules:
            # Only one layer exists twice.
            if not isinstance(module, StoredLinear):
                module.weight.data = module.weight.new_empty(0)
        return packed(self._arena, weight, bias)

    def _compiled(self) -> Callable[..., Any]:
        """The function, which has computed a pass of no tokens: only then may others call it."""
        begun = time.perf_counter()
        counters = tasks.made(PHASES * len(self._layers))
        nothing = Inputs(*[0] * len(Inputs._fields))._replace(counters=counters.ctypes.data)
        work, _ = self._work
        found: Callable[..., Any] = compute
        try:
            found(self._model, work, nothing, 0)
        except Exception as error:  # noqa: BLE001 - broken files, and those that cannot be written, fail in many ways
            log.info("compiled kernels cannot be read or kept: %s", error)
            found = again(compute)
            counters[:] = 0
            found(self._model, work, nothing, 0)
        taken = time.perf_counter() - begun
        if taken > NOTICED:
            log.info("kernels were compiled in %.1f s", taken)
        return found

    def _tables(self, structure: Structure, windows: Sequence[int | None]) -> tuple[Model, dict[str, Any]]:
        width = -(-structure.hidden // GROUP) * GROUP
        arrays = {
            "gains": _rows(structure.gains(), width),
            "post_gains": _rows(structure.post_gains(), width),
            "head_gains": _rows(structure.head_gains(), structure.head_dim),
            "windows": np.array([window or 0 for window in windows], dtype=np.int64),
            "rotations": np.array(structure.rotations, dtype=np.int64),
            "linears": np.array([self._row(*pair) for pair in enumerate(self._layers)], dtype=np.int64),
        }
        model = Model(
            layers=len(self._layers) // LINEARS,
            heads=structure.heads,
            kv_heads=structure.kv_heads,
            head_dim=structure.head_dim,
            hidden=np.float32(structure.hidden),
            width=width,
            gelu=int(structure.gelu),
            scale=np.float32(structure.scale),
            softcap=np.float32(structure.softcap),
            epsilon=np.float32(structure.epsilon),
            block=address(attend_block, BLOCK_TAKES),
            **_addresses(arrays),
        )
        return model, arrays

    def _row(self, index: int, layer: Packed) -> tuple[int, ...]:
        """Of the table of linear layers."""
        # Gates and what they let through make whole groups of the next layer's inputs.
        task = 4
        if index % LINEARS != OPEN:
            enough = TASKS * self._team.threads
            task = next((task for task in (8, 4) if layer.tiles >= enough * task), 2)
        product = address(multiply, f"{MARKS[layer.kind]}, {TAKES}")
        places = [held.ctypes.data for held in (layer.weight, layer.scales, layer.bias)]
        return (layer.kind, product, GROUP_BYTES[layer.kind], layer.groups, layer.tiles, *places, task)

    def _work_for(self, *needs: int) -> tuple[Work, dict[str, Any]]:
        """Room for so many rows, logits, sequences, and parts of the keys of each."""
        if any(need > has for need, has in zip(needs, self._room, strict=True)):
            # More than is needed, so that growing ends.
            self._room = tuple(max(has, need + need // 2) for need, has in zip(needs, self._room, strict=True))
            self._work = self._made(*self._room)
        return self._work

    def _made(self, rows: int, wanted: int, sequences: int, parts: int) -> tuple[Work, dict[str, Any]]:
        model, threads = self._model, self._team.threads
        widest = GROUP * max(layer.groups for layer in self._layers)
        joined = LANES * max(layer.tiles for layer in self._layers[:-1:LINEARS])
        seen = self._layers[WRITE].groups * GROUP
        state = model.head_dim + STATE
        arrays = {
            "x": _aligned((rows, model.width)),
            "last": _aligned((wanted, model.width)),
            "branch": _aligned((rows if model.post_gains else 0, model.width)),
            "floats": _aligned((2, rows, widest)),
            "steps": _aligned((2, rows, widest), np.int8),
            "factors": _aligned((2, rows, widest // GROUP)),
            "starts": _aligned((2, rows, widest // GROUP), np.int32),
            "joined": _aligned((rows, joined)),
            "seen": _aligned((rows, seen)),
            "partial": _aligned((sequences, parts, model.heads, state)),
            "results": _aligned((threads, ROWS, 4 * LANES)),
            "queries": _aligned((threads, PAIRS, model.head_dim)),
            "weights": _aligned((threads, PAIRS, KEYS)),
            "shares": _aligned((threads, LANES)),
            "found": _aligned((threads, 2, PAIRS, state)),
            "places": _aligned((threads, 2, PAIRS), np.int64),
            "turned": _aligned((threads, 2, model.head_dim)),
        }
        sizes = {"rows": rows, "parts": parts, "widest": widest, "joined_width": joined, "seen_width": seen}
        return Work(**sizes, **_addresses(arrays)), arrays


def _smallest(embedding: torch.Tensor | StoredWeight) -> torch.Tensor | StoredWeight:
    """A copy of an embedding, in bfloat16 where that is what it was trained in."""
    if not isinstance(embedding, torch.Tensor):
        return embedding.in_memory
    half = embedding.to(torch.bfloat16, copy=True)
    return half if torch.equal(half.to(embedding.dtype), embedding) else embedding.clone()


def _addresses(arrays: dict[str, Any]) -> dict[str, int]:
    """Of each array; 0 where it is empty."""
    return {name: array.ctypes.data if array.size else 0 for name, array in arrays.items()}


def _rows(vectors: Iterable[torch.Tensor], width: int) -> Any:
    """Vectors as the rows of a matrix of a width, filled up with zeros."""
    found = [vector.numpy() for vector in vectors]
    matrix = np.zeros((len(found), width), dtype=np.float32)
    for row, vector in zip(matrix, found, strict=True):
        row[: len(vector)] = vector
    return matrix


def _aligned(shape: tuple[int, ...], kind: Any = np.float32) -> Any:
    """Zeros that begin at a cache line."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    memory = np.zeros(size + VECTOR, dtype=np.uint8)
    first = -memory.ctypes.data % VECTOR
    return memory[first : first + size].view(kind).reshape(shape)
