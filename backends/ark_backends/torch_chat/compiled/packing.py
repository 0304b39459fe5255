"""Weights in the order in which the kernels read them, in memory of their own."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad

from ark_backends.torch_chat.compiled.simd import LANES, VECTOR
from ark_backends.torch_chat.compiled.tables import BFLOAT16, FLOAT32, GROUP, INT8
from ark_backends.torch_chat.int8 import Rounded

HUGE = 2 << 20
"""Bytes of a huge page, of which the system gives some where it is asked. With small ones a processor spends a third of
its time on looking up where the weights are."""

KINDS = {torch.float32: FLOAT32, torch.bfloat16: BFLOAT16}


class Arena:
    """Memory for weights, taken from the system in large pieces."""

    def __init__(self, piece: int = 64 << 20) -> None:
        self._piece = piece
        self._pieces: list[mmap.mmap] = []
        self._free = np.empty(0, dtype=np.uint8)

    def take(self, size: int) -> Any:
        """Bytes (uint8), at the beginning of a cache line."""
        whole = -(-size // VECTOR) * VECTOR
        if whole > len(self._free):
            asked = -(-max(whole, self._piece) // HUGE) * HUGE + HUGE
            piece = mmap.mmap(-1, asked, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if hasattr(mmap, "MADV_HUGEPAGE"):
                piece.madvise(mmap.MADV_HUGEPAGE)
            self._free = np.frombuffer(piece, dtype=np.uint8)
            self._free = self._free[-self._free.ctypes.data % HUGE :]
        taken, self._free = self._free[:size], self._free[whole:]
        return taken

    def keep(self, tensor: torch.Tensor) -> Any:
        """A copy of a contiguous tensor, as bytes."""
        held = self.take(tensor.nbytes)
        torch.from_numpy(held).copy_(tensor.view(torch.uint8).reshape(-1))
        return held


@dataclass(frozen=True)
class Packed:
    """A linear layer in the arena. What is filled up with zeros counts."""

    kind: int
    outputs: int
    """Without those that are filled up."""
    groups: int
    tiles: int
    weight: Any
    scales: Any
    bias: Any

    def rows(self, outputs: Any) -> Any:
        """Rows of the weight (outputs, inputs filled up), float32, of a layer in 8 bits."""
        tile, lane = outputs // LANES, outputs % LANES
        steps = self.weight.reshape(self.tiles, self.groups, GROUP // 4, LANES, 4)[tile, :, :, lane]
        scales = self.scales.view(np.float16).reshape(self.tiles, self.groups, LANES)[tile, :, lane]
        # What is not finite stays so, and is no reason for a warning.
        with np.errstate(invalid="ignore"):
            rows = (steps.astype(np.float32) - 128.0) * scales.astype(np.float32)[:, :, None, None]
        return rows.reshape(len(outputs), self.groups * GROUP)


def packed(arena: Arena, weight: torch.Tensor | Rounded, bias: torch.Tensor | None = None) -> Packed:
    """A layer of a weight (outputs, inputs), in float32, bfloat16 or rounded to 8 bits."""
    outputs = len(weight.steps) if isinstance(weight, Rounded) else len(weight)
    tiles = -(-outputs // LANES)
    biases = torch.zeros(tiles * LANES)
    if bias is not None:
        biases[:outputs] = bias.detach().float()
    if isinstance(weight, Rounded):
        steps, scale = _filled(weight.steps, LANES, GROUP), _filled(weight.scale, LANES, 1)
        groups = scale.shape[1]
        # Four inputs of an output stand together, and 128 is added to each: that is what the instruction multiplies.
        fours = steps.view(torch.int32).view(tiles, LANES, groups, GROUP // 4).permute(0, 2, 3, 1)
        held = arena.take(steps.nbytes)
        torch.from_numpy(held).view(torch.int32).view(fours.shape).copy_(fours)
        held ^= 0x80
        scales = arena.keep(scale.view(tiles, LANES, groups).transpose(1, 2).contiguous())
        return Packed(INT8, outputs, groups, tiles, held, scales, arena.keep(biases))
    filled = _filled(weight.detach(), LANES, GROUP)
    groups = filled.shape[1] // GROUP
    held = arena.keep(filled.view(tiles, LANES, groups * GROUP).transpose(1, 2).contiguous())
    return Packed(KINDS[weight.dtype], outputs, groups, tiles, held, arena.take(0), arena.keep(biases))


def interleaved(gates: torch.Tensor, ups: torch.Tensor) -> torch.Tensor:
    """Gates and what they let through (width, inputs) as one matrix: after 16 of those 16 of these."""
    parts = [_filled(part, GROUP, 1) for part in (gates, ups)]
    both = torch.stack([part.view(-1, LANES, *part.shape[1:]) for part in parts], dim=1)
    return both.reshape(-1, *gates.shape[1:])


def _filled(matrix: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Filled up with zeros until it is a multiple of so many rows, and columns where it has some."""
    missing = [-matrix.shape[0] % rows]
    if matrix.dim() > 1:
        missing.insert(0, -matrix.shape[1] % columns)
    if not any(missing):
        return matrix.contiguous()
    places = [0, missing[0], 0, missing[1]] if len(missing) > 1 else [0, missing[0]]
    return pad(matrix, places)
