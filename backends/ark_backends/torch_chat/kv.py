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
    grain: int = 1
    """Capacities are multiples of this: the compiled kernels keep so many keys together."""

    @property
    def token_bytes(self) -> int:
        return int(2 * self.layers * self.heads * self.head_dim * self.dtype.itemsize)

    def capacity(self, tokens: int) -> int:
        """Tokens that there is room for where so many are asked for."""
        return -(-tokens // self.grain) * self.grain

    def nbytes(self, tokens: int) -> int:
        """Bytes that room for so many tokens takes."""
        return self.capacity(tokens) * self.token_bytes


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

    def resize(self, capacity: int) -> None:
        """Move to another capacity, of at least `length`. Old and new exist together for a moment."""
        data = self._allocate(capacity)
        whole = self.spec.capacity(self.length)
        data.narrow(3, 0, whole).copy_(self.data.narrow(3, 0, whole))
        self.data = data

    def fork(self, length: int, capacity: int) -> KVBuffer:
        """A copy of the first `length` tokens with room for `capacity`."""
        copy = KVBuffer(self.spec, capacity)
        whole = self.spec.capacity(length)
        copy.data.narrow(3, 0, whole).copy_(self.data.narrow(3, 0, whole))
        copy.length = length
        return copy

    def _allocate(self, capacity: int) -> torch.Tensor:
        spec = self.spec
        shape = (2 * spec.layers, 1, spec.heads, spec.capacity(capacity), spec.head_dim)
        return torch.empty(shape, dtype=spec.dtype, device=spec.device)
