"""Linear layers of the fast pass."""

from __future__ import annotations

from typing import Protocol

import torch

from ark_backends.kit.packed import PackedLinear


class Linear(Protocol):
    """Computes (tokens, inputs) -> (tokens, outputs), in float32."""

    def __call__(self, x: torch.Tensor, factor: torch.Tensor | None = None) -> torch.Tensor:
        """The product of `x` after each of its rows is multiplied by its `factor` (tokens, 1)."""
        ...


class FloatLinear:
    """A layer as the checkpoint has it."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        """`weight` (outputs, inputs), `bias` (outputs)."""
        self.weight = weight
        self.bias = bias

    def __call__(self, x: torch.Tensor, factor: torch.Tensor | None = None) -> torch.Tensor:
        if factor is not None:
            x = x * factor
        # A model that is to be quantized may be loaded in a half type; the passes before that convert.
        return torch.nn.functional.linear(x.to(self.weight.dtype), self.weight, self.bias).to(x.dtype)


class PackedFloatLinear:
    """The same numbers in the order that is fastest on this machine."""

    def __init__(self, packed: PackedLinear) -> None:
        self._packed = packed

    def __call__(self, x: torch.Tensor, factor: torch.Tensor | None = None) -> torch.Tensor:
        product: torch.Tensor = self._packed(x if factor is None else x * factor)
        return product
