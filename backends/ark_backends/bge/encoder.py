"""The forward pass of an encoder: rows of token ids in, vectors out."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
import torch
from torch.nn.functional import normalize
from transformers import AttentionInterface

from ark.engines.embedding import Embedding
from ark_backends.bge.attention import NAME, Run, UnsupportedModel, runs, unpadded_attention
from ark_backends.bge.options import Pooling
from ark_backends.bge.worker_streams import MIN_TOKENS, WorkerStreams, split_evenly
from ark_backends.kit.threads import set_num_threads

log = logging.getLogger("ark.bge")

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}
HALF_TOLERANCE = 0.05
"""Relative error in half precision, where sums are rounded in another order. A wrong model is off by about 1."""

WASTE = 1.15
"""How many times their tokens rows may take that are computed together with padding."""


@dataclass(frozen=True)
class Item:
    """One row to embed, and the outputs to compute."""

    row: Sequence[int]
    dimensions: int | None = None
    sparse: bool = False
    colbert: bool = False
    input: int = 0
    """The index of the input in its job."""
    second: int = 0
    """Where the document begins after a query, in a model that tells the two by token types; else 0."""


class NotFinite(ArithmeticError):
    """A vector has infinities or NaNs: float16 overflows with some models."""


class Encoder:
    """An encoder-only model with its pooling and heads. Used on one thread, which may have worker streams."""

    def __init__(
        self,
        model: Any,
        *,
        pooling: Pooling,
        normalize: bool,
        sparse_linear: Any = None,
        colbert_linear: Any = None,
        unused: frozenset[int] = frozenset(),
        padding: bool = False,
    ) -> None:
        """`model` is an encoder of transformers, `unused` are the ids that get no sparse weight.

        With `padding` rows are filled up to the longest. So are those of a model whose attention needs it, which one
        small pass shows.
        """
        self.model = model.eval().requires_grad_(False)
        self.pooling = pooling
        self.normalize = normalize
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        self.size = int(model.config.hidden_size)
        self.padded_tokens = 0
        """Padding computed so far, in tokens."""
        self._streams: WorkerStreams | None = None
        self._sparse = sparse_linear
        self._colbert = colbert_linear
        self._unused = unused
        self._pad = model.config.pad_token_id or 0
        # RoBERTa and its relatives number positions from here on, and skip padding tokens.
        embeddings = getattr(model, "embeddings", None)
        self._first_position: int | None = getattr(
            getattr(embeddings, "position_embeddings", None), "padding_idx", None
        )
        self._plain: str = model.config._attn_implementation
        self.padding = padding
        if not padding:
            self._try_unpadded()

    def open_streams(self, count: int) -> None:
        """Compute unpadded batches on `count` CPU threads side by side. Called on the thread that encodes."""
        if count > 1 and self.device.type == "cpu" and not self.padding:
            self._streams = WorkerStreams(count)
            # With helpers of this thread there would be more than processors: see `run_on_own_thread`.
            set_num_threads(1)

    def unload(self) -> None:
        """Free the weights, and end the threads."""
        if self._streams is not None:
            self._streams.close()
            self._streams = None
        self.model = self._sparse = self._colbert = None

    def encode(self, items: Sequence[Item]) -> list[Any]:
        """An `Embedding`, or `NotFinite`, for each row, in their order. Rows sorted by length are the fastest."""
        if self._streams is None:
            return self._encode(items)
        lengths = [len(item.row) for item in items]
        parts = split_evenly(lengths, self._streams.count)
        if parts is None and sum(lengths) >= MIN_TOKENS:
            return self._streams.together(lambda: self._encode(items))
        if parts is None:
            return self._encode(items)
        results = self._streams.map(self._encode, [[items[index] for index in part] for part in parts])
        found: dict[int, Any] = {}
        for part, embeddings in zip(parts, results, strict=True):
            found.update(zip(part, embeddings, strict=True))
        return [found[index] for index in range(len(items))]

    def _encode(self, items: Sequence[Item]) -> list[Any]:
        embeddings: list[Any] = []
        with torch.inference_mode():
            for group in self._groups([len(item.row) for item in items]):
                chosen = items[group]
                embeddings += self._read_out(chosen, *self._forward(chosen))
        return embeddings

    def _groups(self, lengths: Sequence[int]) -> list[slice]:
        """The rows of each pass of the model: all, or with padding those of about the same length."""
        if not self.padding:
            return [slice(0, len(lengths))]
        groups: list[slice] = []
        start = tokens = longest = 0
        for index, length in enumerate(lengths):
            longest, tokens = max(longest, length), tokens + length
            if longest * (index + 1 - start) > WASTE * tokens and index > start:
                groups.append(slice(start, index))
                start, tokens, longest = index, length, length
        return [*groups, slice(start, len(lengths))]

    def _forward(self, items: Sequence[Item]) -> tuple[torch.Tensor, list[Run]]:
        """The last hidden states without padding, (tokens, size), and the runs of rows in them."""
        rows = [item.row for item in items]
        lengths = [len(row) for row in rows]
        found = runs(lengths)
        flat = torch.tensor([token for row in rows for token in row], device=self.device)
        types = self._types(items)
        if not self.padding:
            positions = self._positions(flat, found)
            more = {name: value[None] for name, value in types.items()}
            output = self.model(input_ids=flat[None], position_ids=positions[None], ark_runs=found, **more)
            return output.last_hidden_state[0], found
        if len(found) == 1:
            # Rows of one length need no mask.
            more = {name: value.view(len(rows), lengths[0]) for name, value in types.items()}
            output = self.model(input_ids=flat.view(len(rows), lengths[0]), **more)
            return output.last_hidden_state.flatten(0, 1), found
        width = max(lengths)
        mask = torch.arange(width, device=self.device) < torch.tensor(lengths, device=self.device)[:, None]
        ids = torch.full((len(rows), width), self._pad, device=self.device).masked_scatter_(mask, flat)
        self.padded_tokens += mask.numel() - flat.numel()
        more = {name: torch.zeros_like(ids).masked_scatter_(mask, value) for name, value in types.items()}
        output = self.model(input_ids=ids, attention_mask=mask.long(), **more)
        return output.last_hidden_state[mask], found

    def _types(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """The type of each token: 0, and 1 from where a document begins."""
        if not any(item.second for item in items):
            return {}
        types = [int(0 < item.second <= place) for item in items for place in range(len(item.row))]
        return {"token_type_ids": torch.tensor(types, device=self.device)}

    def _positions(self, flat: torch.Tensor, found: Sequence[Run]) -> torch.Tensor:
        """Each token's position in its own row, as the model counts."""
        if self._first_position is None:
            own = [torch.arange(run.length, device=self.device).repeat(run.count) for run in found]
            return torch.cat(own) if len(own) > 1 else own[0]
        counted = flat != self._first_position
        total = counted.cumsum(0)
        before = total - counted.long()
        starts = [
            torch.arange(run.start, run.end, run.length, device=self.device).repeat_interleave(run.length)
            for run in found
        ]
        return (total - before[torch.cat(starts)]) * counted + self._first_position

    def _read_out(self, items: Sequence[Item], hidden: torch.Tensor, found: Sequence[Run]) -> list[Any]:
        dense = torch.cat([self._pool(hidden[run.start : run.end].view(run.count, run.length, -1)) for run in found])
        finished = {size: self._finish(dense[:, :size]) for size in {item.dimensions for item in items}}
        places = [(start, run.length) for run in found for start in range(run.start, run.end, run.length)]
        embeddings: list[Embedding | NotFinite] = []
        for index, (item, (start, length)) in enumerate(zip(items, places, strict=True)):
            own = hidden[start : start + length]
            try:
                embedding = Embedding(
                    dense=_bytes(finished[item.dimensions][index]),
                    tokens=length,
                    sparse=self._sparse_weights(item.row, own) if item.sparse else None,
                    colbert=self._colbert_vectors(own) if item.colbert else None,
                )
            except NotFinite as error:
                embeddings.append(error)
            else:
                embeddings.append(embedding)
        return embeddings

    def _pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """One vector for each row, (rows, size) in float32, from (rows, tokens, size)."""
        if self.pooling == "mean":
            return hidden.float().mean(1)
        return hidden[:, 0 if self.pooling == "cls" else -1].float()

    def _finish(self, vectors: torch.Tensor) -> Any:
        """A numpy array of float32, (rows, size)."""
        return _array(normalize(vectors, dim=-1) if self.normalize else vectors)

    def _sparse_weights(self, row: Sequence[int], hidden: torch.Tensor) -> dict[int, float]:
        """The largest weight of each token id, as in BGE-M3: ReLU of a linear map of the hidden state."""
        found = _array(torch.relu(self._sparse(hidden)[:, 0]))
        if not numpy.isfinite(found).all():
            raise NotFinite
        weights: dict[int, float] = {}
        for token, weight in zip(row, found.tolist(), strict=True):
            if weight > weights.get(token, 0.0) and token not in self._unused:
                weights[token] = weight
        return weights

    def _colbert_vectors(self, hidden: torch.Tensor) -> list[bytes]:
        """A normalized vector for each token but the first, as in BGE-M3."""
        return [_bytes(vector) for vector in _array(normalize(self._colbert(hidden[1:]), dim=-1))]

    def _try_unpadded(self) -> None:
        """Use no padding if a few rows come out as they do one by one with the model's own attention."""
        AttentionInterface.register(NAME, unpadded_attention)
        draw = random.Random(0)
        top = min(int(self.model.config.vocab_size), 1000)
        rows = [[draw.randrange(top) for _ in range(length)] for length in (5, 5, 9, 23)]
        with torch.inference_mode():
            alone = [torch.tensor([row], device=self.device) for row in rows]
            expected = torch.cat([self.model(input_ids=ids).last_hidden_state[0] for ids in alone])
            try:
                self.model.set_attn_implementation(NAME)
                got, _ = self._forward([Item(row) for row in rows])
                error = float(torch.linalg.vector_norm(got.float() - expected.float()))
                error /= float(torch.linalg.vector_norm(expected.float()).clamp_min(1e-12))
                if not error <= TOLERANCE.get(self.dtype, HALF_TOLERANCE):
                    raise UnsupportedModel(f"vectors differ without padding (relative error {error:.2g})")
            except (UnsupportedModel, TypeError, ValueError, RuntimeError, AttributeError) as problem:
                log.info("%s is computed with padding: %s", type(self.model).__name__, problem)
                self.model.set_attn_implementation(self._plain)
                self.padding = True


def _array(values: torch.Tensor) -> Any:
    """A numpy array of little-endian float32."""
    return values.float().cpu().numpy().astype("<f4", copy=False)


def _bytes(vector: Any) -> bytes:
    if not numpy.isfinite(vector).all():
        raise NotFinite
    data: bytes = vector.tobytes()
    return data
