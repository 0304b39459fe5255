"""The KV of one sequence: keys and values of all its tokens in all layers."""

from __future__ import annotations

import mmap
from contextlib import suppress
from dataclasses import dataclass

import torch

ROOM = 4
"""Times its capacity that a buffer of a CPU has addresses for: it moves when it has grown by so much."""


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

    def shape(self, stride: int) -> tuple[int, ...]:
        """Of the tensor that holds a sequence's KV, with addresses for so many tokens."""
        return (2 * self.layers, 1, self.heads, stride, self.head_dim)

    def capacity(self, tokens: int) -> int:
        """Tokens that there is room for where so many are asked for."""
        return -(-tokens // self.grain) * self.grain

    def nbytes(self, tokens: int) -> int:
        """Bytes that room for so many tokens takes."""
        return self.capacity(tokens) * self.token_bytes


class KVBuffer:
    """Keys and values of one sequence, in one tensor (2 * layers, 1, heads, stride, head_dim).

    Row 2i holds the keys of layer i, row 2i + 1 its values. The head comes before the token, so that attention reads
    each head's keys in one stretch; one tensor for all layers, so that a step makes its views with two calls. Only
    the first `length` tokens are valid: a step writes behind them and raises `length` when it has succeeded.

    `capacity` tokens have room, and count as memory. On a CPU there are addresses for more, whose pages take memory
    when they are first written: so a conversation that goes on need not be moved, which at the end of a long one would
    take as long as many of its tokens.
    """

    __slots__ = ("_mapped", "capacity", "data", "length", "spec")

    def __init__(self, spec: KVSpec, capacity: int) -> None:
        self.spec = spec
        self.length = 0
        self.capacity = spec.capacity(capacity)
        self._mapped: mmap.mmap | None = None
        self.data = self._allocate()

    @property
    def stride(self) -> int:
        """Tokens from the keys of one head to those of the next."""
        return int(self.data.shape[3])

    @property
    def nbytes(self) -> int:
        return self.capacity * self.spec.token_bytes

    def views(self, start: int, length: int) -> tuple[torch.Tensor, ...]:
        """Keys and values of the tokens from `start`, by row: 2 * layers of (1, heads, length, head_dim)."""
        rows: tuple[torch.Tensor, ...] = self.data.narrow(3, start, length).unbind(0)
        return rows

    def resizing(self, capacity: int) -> int:
        """Bytes that have to be free to resize it: where it moves, old and new exist together for a moment."""
        size = self.spec.nbytes(capacity)
        return size - self.nbytes if self._stays(capacity) else size

    def resize(self, capacity: int) -> None:
        """Take another capacity, of at least `length`."""
        if self._stays(capacity):
            capacity = self.spec.capacity(capacity)
            self._give_back(capacity)
            self.capacity = capacity
            return
        moved = self.fork(self.length, capacity)
        self.data, self.capacity, self._mapped = moved.data, moved.capacity, moved._mapped

    def fork(self, length: int, capacity: int) -> KVBuffer:
        """A copy of the first `length` tokens with room for `capacity`."""
        copy = KVBuffer(self.spec, capacity)
        whole = self.spec.capacity(length)
        copy.data.narrow(3, 0, whole).copy_(self.data.narrow(3, 0, whole))
        copy.length = length
        return copy

    def _stays(self, capacity: int) -> bool:
        return self._mapped is not None and self.spec.capacity(capacity) <= self.stride

    def _allocate(self) -> torch.Tensor:
        spec, stride = self.spec, self.capacity
        if spec.device.type != "cpu" or not stride:
            return torch.empty(spec.shape(stride), dtype=spec.dtype, device=spec.device)
        try:
            self._mapped, stride = _pages(ROOM * self.nbytes), ROOM * stride
        except OSError:  # there are not as many addresses
            self._mapped = _pages(self.nbytes)
        return torch.frombuffer(self._mapped, dtype=spec.dtype).view(spec.shape(stride))

    def _give_back(self, capacity: int) -> None:
        """Return the pages behind `capacity`. What was there is lost."""
        if self._mapped is None or capacity >= self.capacity or not hasattr(mmap, "MADV_DONTNEED"):
            return
        token = self.spec.head_dim * self.spec.dtype.itemsize
        for start in range(0, len(self._mapped), self.stride * token):
            first = -(-(start + capacity * token) // mmap.PAGESIZE) * mmap.PAGESIZE
            end = (start + self.capacity * token) // mmap.PAGESIZE * mmap.PAGESIZE
            if first < end:
                self._mapped.madvise(mmap.MADV_DONTNEED, first, end - first)


def _pages(size: int) -> mmap.mmap:
    """Memory of which each page is taken when it is first written. Raises OSError."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, size)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        # In large pages the first token of each head would take 2 MiB.
        with suppress(OSError):  # a kernel that has none
            pages.madvise(mmap.MADV_NOHUGEPAGE)
    return pages
