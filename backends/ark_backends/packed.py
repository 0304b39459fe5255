"""Linear layers by oneDNN, with weights in its own order in memory, where that is faster than torch's usual way.

torch multiplies float32 matrices on a CPU by MKL, which leaves AVX-512 unused on processors that are not Intel's: there
oneDNN takes less than half of the time. Importing this module imports torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch.nn.functional import linear

ROWS = 64
"""Rows of the product that is timed: between one short text and a full batch."""

ROUNDS = 15
"""Products of each kind that are timed."""

FASTER = 0.8
"""Share of the usual way's time above which a layer stays as it is."""

TOLERANCE = 1e-4
"""Relative error above which a layer stays as it is: sums of float32 in another order are far below."""


class PackedLinear(torch.nn.Module):  # type: ignore[misc]
    """A linear layer in float32 on a CPU, whose weight is kept in oneDNN's order only.

    A row's outputs are the same bits however many rows stand beside it.
    """

    def __init__(self, layer: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        # The number of rows is a hint that makes no difference.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), ROWS)
        self._bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")
        return product


def pack(model: torch.nn.Module) -> int:
    """Put a packed layer in the place of every linear layer of a model that is faster so, and return their number.

    Layers of one shape are timed once. Nothing is changed on a machine, or with a torch, that has no such layers.
    """
    if not torch.backends.mkldnn.is_available():
        return 0
    faster: dict[tuple[int, int], bool] = {}
    packed = 0
    with torch.inference_mode():
        for name, layer in list(model.named_modules()):
            if type(layer) is not torch.nn.Linear or not _plain(layer.weight):
                continue
            shape = (layer.in_features, layer.out_features)
            if shape not in faster:
                faster[shape] = _is_faster(layer)
            if faster[shape]:
                model.set_submodule(name, PackedLinear(layer))
                packed += 1
    return packed


def _plain(weight: torch.Tensor) -> bool:
    return weight.device == torch.device("cpu") and weight.dtype is torch.float32


def _is_faster(layer: torch.nn.Linear) -> bool:
    x = torch.randn(ROWS, layer.in_features)
    try:
        packed = PackedLinear(layer)
        got = packed(x)
    except (AttributeError, RuntimeError):
        # The operations are torch's own, of its compiler, and may be gone in another version or build.
        return False
    expected = linear(x, layer.weight, layer.bias)
    error = torch.linalg.vector_norm(got - expected) / torch.linalg.vector_norm(expected).clamp_min(1e-12)
    if not float(error) <= TOLERANCE:
        return False
    ways: tuple[Callable[[], object], ...] = (lambda: packed(x), lambda: linear(x, layer.weight, layer.bias))
    # In turns, so that what else runs on the machine slows both.
    times = [[_seconds(way) for way in ways] for _ in range(ROUNDS)]
    ours, usual = (median(column) for column in zip(*times, strict=True))
    return bool(ours <= FASTER * usual)


def _seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
