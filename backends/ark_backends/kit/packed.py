"""Linear layers by oneDNN, with weights in its own memory order, where that is faster than torch's default.

torch multiplies float32 matrices on a CPU by MKL, which leaves AVX-512 unused on processors other than Intel's; oneDNN
takes less than half the time there. Importing this module imports torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch.nn.functional import linear, pad

ROWS = 64
"""Rows of the product that is timed: between one short text and a full batch."""

EXACT = 16
"""Rows up to which none are added: a step of a few streams, and short texts."""

ROUNDS = 9
"""Products of each kind that are timed."""

FASTER = 0.8
"""Share of the default's time above which a layer stays as it is."""

TOLERANCE = 1e-4
"""Relative error above which a layer stays as it is: sums of float32 in another order are far below."""


def rounded_up(rows: int) -> int:
    """The number of rows computed in place of `rows`: at most an eighth more, one of eight between two powers of two.

    oneDNN makes and caches a kernel for each number of rows it meets, which takes half a megabyte and half a
    millisecond.
    """
    if rows <= EXACT:
        return rows
    step = 1 << (rows.bit_length() - 4)
    return -(-rows // step) * step


class PackedLinear(torch.nn.Module):  # type: ignore[misc]
    """A linear layer in float32 on a CPU, whose weight exists in oneDNN's order only.

    The outputs of a row are the same bits whatever other rows are computed with it.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        """`weight` (outputs, inputs), `bias` (outputs)."""
        super().__init__()
        self.out_features, self.in_features = weight.shape
        # The number of rows is a hint that makes no difference.
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
        self.bias = None if bias is None else bias.detach()

    @property
    def weight(self) -> torch.Tensor:
        """A copy in torch's order, for models that look into their layers."""
        return self._packed.to_dense()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = x.shape[:-1]
        rows = shape.numel()
        filled = rounded_up(rows)
        if filled != rows:
            x = pad(x.reshape(rows, self.in_features), (0, 0, 0, filled - rows))
            return self._product(x)[:rows].view(*shape, self.out_features)
        return self._product(x)

    def _product(self, x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")
        return product


class Packer:
    """Packs layers where that is faster on this machine. Layers of the same shape are timed once."""

    def __init__(self) -> None:
        self._faster: dict[torch.Size, bool] = {}

    def pack(self, weight: torch.Tensor, bias: torch.Tensor | None) -> PackedLinear | None:
        """The packed layer; None where it is not in float32 on a CPU, or not faster."""
        if weight.device != torch.device("cpu") or weight.dtype is not torch.float32:
            return None
        if weight.shape not in self._faster:
            self._faster[weight.shape] = torch.backends.mkldnn.is_available() and _is_faster(weight, bias)
        return PackedLinear(weight, bias) if self._faster[weight.shape] else None


def pack(model: torch.nn.Module) -> int:
    """Replace the linear layers of a model that are faster packed. Returns their number."""
    packer = Packer()
    count = 0
    with torch.inference_mode():
        for name, layer in list(model.named_modules()):
            packed = packer.pack(layer.weight, layer.bias) if type(layer) is torch.nn.Linear else None
            if packed is not None:
                model.set_submodule(name, packed)
                count += 1
    return count


def _is_faster(weight: torch.Tensor, bias: torch.Tensor | None) -> bool:
    x = torch.randn(ROWS, weight.shape[1])
    try:
        packed = PackedLinear(weight, bias)
        got = packed(x)
    except (AttributeError, RuntimeError):
        # The operations are private to torch's compiler, and may be missing in another version or build.
        return False
    expected = linear(x, weight, bias)
    error = torch.linalg.vector_norm(got - expected) / torch.linalg.vector_norm(expected).clamp_min(1e-12)
    if not float(error) <= TOLERANCE:
        return False
    # Alternating, so that what else runs on the machine slows both.
    times = [(seconds(lambda: packed(x)), seconds(lambda: linear(x, weight, bias))) for _ in range(ROUNDS)]
    ours, default = (median(column) for column in zip(*times, strict=True))
    return bool(ours <= FASTER * default)


def seconds(work: Callable[[], object]) -> float:
    """How long `work` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
