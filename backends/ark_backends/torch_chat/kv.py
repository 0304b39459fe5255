"""The KV of one sequence: keys and values of all its tokens in all layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class KVSpec:
    """What the KV of one token looks like in a model. `windows` has each layer's sliding window, None for all."""

    layers: int
    heads: int
    head_dim: int
    dtype: torch.dtype
    device: torch.device
    windows: tuple[int | None, ...]
    group: int | None = 1
    """Queries for each KV head, None where layers differ in that."""
    fused: bool = True
    """SDPA computes the model's attention; otherwise it is written out."""

    @property
    def has_ways(self) -> bool:
        """Whether attention may be computed in another of the `ways` than by SDPA."""
        return self.fused and self.group is not None and self.dtype is torch.float32 and self.device.type == "cpu"

    @property
    def token_bytes(self) -> int:
        return int(2 * self.layers * self.heads * self.head_dim * self.dtype.itemsize)


class KVBuffer:
    """Keys and values of one sequence, in one tensor (2 * layers, 1, heads, capacity, head_dim).

    Row 2i holds the keys of layer i, row 2i + 1 its values. The head comes before the token, so that attention reads
    each head's keys in one stretch; one tensor for all layers, so that a step makes its views with two calls. Only
    the first `length` tokens are valid: a step writes behind them and raises `length` when it has succeeded.
    """

    __slots__ = ("data", "length", "spec")

    def __init__(self, spec: KVSpec, capacity: int) -> None:
        self.spec = spec
        self.length = 0
        self.data = self._allocate(capacity)

    @property
    def capacity(self) -> int:
        return int(self.data.shape[3])

    @property
    def nbytes(self) -> int:
        return self.capacity * self.spec.token_bytes

    def views(self, start: int, length: int) -> tuple[torch.Tensor, ...]:
        """Keys and values of the tokens from `start`, by row: 2 * layers of (1, heads, length, head_dim)."""
        rows: tuple[torch.Tensor, ...] = self.data.narrow(3, start, length).unbind(0)
        return rows

    def pairs(self, start: int, length: int) -> tuple[torch.Tensor, ...]:
        """The same by layer, keys before values: (2, heads, length, head_dim)."""
        spec = self.spec
        layers = self.data.view(spec.layers, 2, spec.heads, self.capacity, spec.head_dim)
        rows: tuple[torch.Tensor, ...] = layers.narrow(3, start, length).unbind(0)
        return rows

    def heads(self) -> tuple[torch.Tensor, ...]:
        """Keys and values of the whole capacity, by row: 2 * layers of (1, heads, capacity, head_dim)."""
        rows: tuple[torch.Tensor, ...] = self.data.unbind(0)
        return rows

    def zero_values(self, start: int, stop: int) -> None:
        """Make the values from `start` to `stop`, or to the capacity, finite: memory may hold anything."""
        self.data[1::2, :, :, start:stop].zero_()

    def resize(self, capacity: int) -> None:
        """Move to another capacity, of at least `length`. Old and new exist together for a moment."""
        data = self._allocate(capacity)
        data.narrow(3, 0, self.length).copy_(self.data.narrow(3, 0, self.length))
        self.data = data

    def fork(self, length: int, capacity: int) -> KVBuffer:
        """A copy of the first `length` tokens with room for `capacity`."""
        copy = KVBuffer(self.spec, capacity)
        copy.data.narrow(3, 0, length).copy_(self.data.narrow(3, 0, length))
        copy.length = length
        return copy

    def _allocate(self, capacity: int) -> torch.Tensor:
        spec = self.spec
        shape = (2 * spec.layers, 1, spec.heads, capacity, spec.head_dim)
        return torch.empty(shape, dtype=spec.dtype, device=spec.device)
