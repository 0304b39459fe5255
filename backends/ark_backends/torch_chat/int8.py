"""Linear layers in 8 bits.

Every output channel of the weights and every token of the activations has a scale of its own, and the sums between
are whole numbers, exact in any order. So what one token gets does not depend, in a single bit, on the tokens beside
it, on how many there are, or on which kernel multiplies them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ark.config import ConfigError
from ark_backends.torch_chat.devices import SMALL

log = logging.getLogger("ark.torch_chat")

STEPS = 127.0
"""Levels on either side of zero."""

TINY = 1e-30
"""Stands for the largest magnitude of a token whose activations are all zero."""

COLD = 48 << 20
"""Bytes that are written between two measurements, to put a matrix out of the caches."""

CLEARLY = 1.15
"""How much faster one token has to be with the weights as they are, for a second copy of them to be kept."""


@dataclass(frozen=True)
class Rounded:
    """A weight in 8 bits: `steps` (outputs, inputs) in int8, each times the `scale` (outputs) of its channel."""

    steps: torch.Tensor
    scale: torch.Tensor


def rounded(weight: torch.Tensor) -> Rounded:
    """A weight (outputs, inputs) of any float type, by output channel."""
    full = weight.detach().float()
    scale = full.abs().amax(dim=1).clamp_min_(TINY).div_(STEPS)
    return Rounded((full / scale[:, None]).round_().to(torch.int8), scale)


class Int8Linear:
    """Weights in int8 by output channel, activations in int8 by token."""

    def __init__(
        self, weight: torch.Tensor | Rounded, bias: torch.Tensor | None = None, choice: Kernels | None = None
    ) -> None:
        """`weight` (outputs, inputs), rounded or to be rounded; `bias` (outputs). Kernels that are not given are
        measured."""
        whole = weight if isinstance(weight, Rounded) else rounded(weight)
        steps = whole.steps
        self.outputs = len(steps)
        # The steps of the activations are counted here: one product less for every call.
        self.scale = whole.scale / STEPS
        self.bias = None if bias is None else bias.detach().float()
        self._hold(steps, choice)

    def keep(self, choice: Kernels | None) -> None:
        """Keep other copies of the weight, of a layer with `Kernels.plain`."""
        self._hold(self.steps, choice)

    def _hold(self, steps: torch.Tensor, choice: Kernels | None) -> None:
        choice = choice or kernels(self.outputs, steps.shape[1])
        # As it lies in memory, the matrix is read once for one token. More tokens want it in blocks.
        self._columns = steps.t() if choice.plain else None
        self._packed = pack(steps) if choice.packed else None

    @property
    def steps(self) -> torch.Tensor:
        """The weight (outputs, inputs), int8, of a layer with `Kernels.plain`."""
        assert self._columns is not None
        return self._columns.t()

    @property
    def nbytes(self) -> int:
        return sum(held.numel() for held in (self._columns, self._packed) if held is not None)

    def __call__(self, x: torch.Tensor, factor: torch.Tensor | None = None) -> torch.Tensor:
        """Product of `x` (tokens, inputs), float32, each row times its `factor` (tokens, 1)."""
        if not len(x):
            return x.new_empty(0, self.outputs)
        largest = x.abs().amax(dim=-1, keepdim=True).clamp_min_(TINY)
        # In float32 the largest product rounds to 127 and never beyond: nothing is left to clamp.
        steps = (x * largest.reciprocal().mul_(STEPS)).round_()
        if self._columns is not None and (len(x) == 1 or self._packed is None):
            out = plain(steps, self._columns, self.scale)
        else:
            out = packed(steps, self._packed, self.scale)
        out.mul_(largest if factor is None else largest.mul_(factor))
        return out if self.bias is None else out.add_(self.bias)


class Int8Module(torch.nn.Module):  # type: ignore[misc]
    """The same in the place of a `torch.nn.Linear` of a transformers model."""

    def __init__(self, linear: Int8Linear, inputs: int) -> None:
        super().__init__()
        self.in_features, self.out_features = inputs, linear.outputs
        self._linear = linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self._linear(x.reshape(-1, self.in_features).float())
        return out.view(*x.shape[:-1], self.out_features).to(x.dtype)


def plain(steps: torch.Tensor, columns: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Whole numbers of -127..127 (tokens, inputs) times an int8 matrix (inputs, outputs), each output scaled."""
    return torch._int_mm(steps.to(torch.int8), columns) * scale


def packed(steps: torch.Tensor, matrix: torch.Tensor | None, scale: torch.Tensor) -> torch.Tensor:
    """The same with what `pack` gave."""
    # oneDNN's kernel takes unsigned activations with a zero point, and applies one scale to each output.
    shifted = steps.add_(128.0).to(torch.uint8)
    zeros = _zeros(len(scale))
    call: Callable[..., torch.Tensor] = torch.ops.onednn.qlinear_pointwise
    return call(shifted, 1.0, 128, matrix, scale, zeros, None, 1.0, 0, torch.float32, "none", [], "")


def pack(steps: torch.Tensor) -> torch.Tensor:
    """An int8 matrix (outputs, inputs) in the blocks of oneDNN's kernel."""
    matrix: torch.Tensor = torch.ops.onednn.qlinear_prepack(steps, [8, steps.shape[1]])
    return matrix


@dataclass(frozen=True)
class Kernels:
    """Which copies of a matrix are kept: as it is, in blocks, or both."""

    plain: bool
    packed: bool


AS_THEY_ARE = Kernels(plain=True, packed=False)
"""What compiled steps read. A second copy would cost more memory than it saves time in prompts."""

_zero_points: dict[int, torch.Tensor] = {}
_chosen: dict[tuple[int, int, int], Kernels] = {}


def kernels(outputs: int, inputs: int) -> Kernels:
    """The kernels for matrices of a shape: measured once, among those that give the same bits."""
    key = (outputs, inputs, torch.get_num_threads())
    if key not in _chosen:
        _chosen[key] = _measured(outputs, inputs)
        log.debug("int8 %d x %d: %s", outputs, inputs, _chosen[key])
    return _chosen[key]


def _measured(outputs: int, inputs: int) -> Kernels:
    # A vocabulary is like any other matrix, only longer.
    outputs = min(outputs, 16384)
    draw = torch.Generator().manual_seed(0)
    matrix = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8, generator=draw)
    scale = torch.rand(outputs, generator=draw)
    try:
        blocks = pack(matrix)
        rows = [torch.randint(-127, 128, (n, inputs), generator=draw).float() for n in (1, 4, 19)]
        # `packed` writes over its argument.
        pairs = [(plain(x, matrix.t(), scale), packed(x.clone(), blocks, scale)) for x in rows]
    except (RuntimeError, AttributeError, TypeError) as error:
        log.info("int8: packed weights cannot be used with this torch: %s", str(error).splitlines()[0])
        return AS_THEY_ARE
    if not all(torch.equal(one, other) for one, other in pairs):
        return AS_THEY_ARE

    def compared(x: torch.Tensor) -> list[float]:
        return _times(lambda: plain(x, matrix.t(), scale), lambda: packed(x.clone(), blocks, scale))

    single, several = compared(rows[0]), compared(rows[1])
    if several[0] <= several[1]:
        return AS_THEY_ARE
    return Kernels(plain=single[0] * CLEARLY < single[1], packed=True)


def _times(*ways: Callable[[], Any]) -> list[float]:
    """Seconds of each with its matrix not in the caches, as it is when a layer's turn comes: the best of several,
    taken in turns so that what else runs hits all."""
    others = torch.empty(COLD, dtype=torch.uint8)
    best = [float("inf")] * len(ways)
    for _ in range(8):
        for i, way in enumerate(ways):
            others.fill_(i)
            start = time.perf_counter()
            way()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def _zeros(length: int) -> torch.Tensor:
    if length not in _zero_points:
        _zero_points[length] = torch.zeros(length, dtype=torch.long)
    return _zero_points[length]


def wanted(option: str, target: torch.device, size: int) -> bool:
    """Whether a model of `size` bytes in float32 is to be quantized. Raises ConfigError where it cannot be.

    `auto` is int8 where the CPU has the instructions for it, and the model is large enough to gain by it.
    """
    if option == "none" or (option == "auto" and (target.type != "cpu" or size < SMALL)):
        return False
    reason = supported() if target.type == "cpu" else f"it is for CPUs, and the device is {target}"
    if reason is not None and option == "int8":
        raise ConfigError(f"quantization = 'int8' cannot be used: {reason}")
    if reason is not None:
        log.info("quantization none: %s", reason)
    return reason is None


def supported() -> str | None:
    """Why this CPU is not one for int8; None when it is."""
    if not _vnni():
        return "this CPU has no VNNI instructions"
    with torch.inference_mode():
        return None if _exact() else "int8 products are not exact on this machine"


def _vnni() -> bool:
    known = getattr(torch.cpu, "_is_vnni_supported", None)
    if known is not None and known():
        return True
    try:
        # torch knows only the wide ones; oneDNN uses the others as well.
        return " avx_vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def _exact() -> bool:
    """Whether the products of a few extreme and random matrices are those of whole numbers."""
    # Without VNNI pairs of products are added up in 16 bits, which the largest ones overflow.
    draw = torch.Generator().manual_seed(0)
    for rows, inputs, outputs in ((1, 576, 192), (2, 576, 192), (7, 333, 70), (33, 1024, 128)):
        weight = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8, generator=draw)
        weight[0], weight[1] = 127, -127
        ends = torch.full((rows, inputs), 127, dtype=torch.int8)
        drawn = torch.randint(-127, 128, (rows, inputs), dtype=torch.int8, generator=draw)
        for steps in (ends, drawn):
            if not torch.equal(torch._int_mm(steps, weight.t()).double(), steps.double() @ weight.double().t()):
                return False
    return True
