"""Linear layers in 8 bits by themselves, for models whose layers are not compiled as a whole."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
import torch

from ark_backends.torch_chat.compiled.cache import address, kept
from ark_backends.torch_chat.compiled.packing import Arena, packed
from ark_backends.torch_chat.compiled.products import MARKS, TAKES, call_product, multiply
from ark_backends.torch_chat.compiled.rows import quantize
from ark_backends.torch_chat.compiled.simd import LANES, VECTOR, round_as_usual
from ark_backends.torch_chat.compiled.tables import GROUP, INT8
from ark_backends.torch_chat.compiled.tasks import did, made, take, wait
from ark_backends.torch_chat.compiled.team import Team
from ark_backends.torch_chat.stored import StoredLinear, rounded_weight

TILES = 4
"""Tiles that one task computes."""


class Multiplied(NamedTuple):
    """Rows that are multiplied with one linear layer: numbers, and addresses of arrays."""

    number: int
    groups: int
    tiles: int
    product: int
    weight: int
    scales: int
    bias: int
    x: int
    """(rows, inputs), filled up with zeros to whole groups."""
    steps: int
    factors: int
    starts: int
    out: int
    """(rows, tiles * 16)."""
    counters: int


@kept
def multiply_rows(rows: Multiplied, thread: int) -> None:
    """Take part as one of the threads. When it returns, all outputs are there."""
    round_as_usual()
    width, marks = GROUP * rows.groups, 4 * rows.groups
    while True:
        row = take(rows.counters, 0)
        if row >= rows.number:
            break
        mark = row * marks
        x, steps = rows.x + 4 * row * width, rows.steps + row * width
        quantize(x, rows.groups, steps, rows.factors + mark, rows.starts + mark)
        did(rows.counters, 0)
    wait(rows.counters, 0, rows.number)
    tasks = (rows.tiles + TILES - 1) // TILES
    while True:
        task = take(rows.counters, 1)
        if task >= tasks:
            break
        tile = task * TILES
        call_product(
            rows.product, 0, GROUP * LANES, rows.weight + tile * width * LANES,
            rows.scales + 2 * tile * rows.groups * LANES, rows.groups, rows.steps, width, rows.factors, rows.starts,
            marks, rows.bias + VECTOR * tile, rows.out + VECTOR * tile, VECTOR * rows.tiles, 0, rows.number,
            min(TILES, rows.tiles - tile),
        )  # fmt: skip
        did(rows.counters, 1)
    wait(rows.counters, 1, tasks)


class Int8Module(torch.nn.Module):  # type: ignore[misc]
    """Stands in the place of a `torch.nn.Linear` of a transformers model."""

    def __init__(self, linear: torch.nn.Linear | StoredLinear, team: Team, arena: Arena) -> None:
        super().__init__()
        self.out_features, self.in_features = linear.out_features, linear.in_features
        self._team = team
        self._layer = packed(arena, rounded_weight(linear), linear.bias)
        self._product = address(multiply, f"{MARKS[INT8]}, {TAKES}")
        with _compiling:
            # Only when it has been called once may several threads call it.
            self._multiplied(np.empty((0, self._layer.groups * GROUP), dtype=np.float32), Team(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, self.in_features).float()
        filled = np.zeros((len(flat), self._layer.groups * GROUP), dtype=np.float32)
        filled[:, : self.in_features] = flat.numpy()
        out = torch.from_numpy(self._multiplied(filled, self._team))[:, : self.out_features]
        return out.reshape(*x.shape[:-1], self.out_features).to(x.dtype)

    def _multiplied(self, x: Any, team: Team) -> Any:
        layer = self._layer
        arrays = {
            "weight": layer.weight,
            "scales": layer.scales,
            "bias": layer.bias,
            "x": x,
            "steps": np.empty(x.shape, dtype=np.int8),
            "factors": np.empty((len(x), layer.groups), dtype=np.float32),
            "starts": np.empty((len(x), layer.groups), dtype=np.int32),
            "out": np.empty((len(x), LANES * layer.tiles), dtype=np.float32),
            "counters": made(2),
        }
        places = {name: array.ctypes.data for name, array in arrays.items()}
        rows = Multiplied(number=len(x), groups=layer.groups, tiles=layer.tiles, product=self._product, **places)
        team.run(multiply_rows, rows, held=arrays)
        return arrays["out"]


_compiling = threading.Lock()
