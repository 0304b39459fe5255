"""Layers whose weights stay in a file: they are read when they are needed, and not kept.

A model with these layers computes, slowly, in the memory of one of them, as the referee of what is made of its weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

import torch
from torch.nn.functional import linear

from ark_backends.torch_chat.int8 import Rounded, rounded

CHUNK = 1 << 22
"""Numbers of a weight that are read at once."""

_empty: ContextVar[bool] = ContextVar("_empty", default=False)


class StoredWeight(Protocol):
    """A matrix in a file."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def dtype(self) -> torch.dtype:
        """In which no number of the weight is rounded."""
        ...

    @property
    def in_memory(self) -> StoredWeight:
        """A copy that needs no file."""
        ...

    def rows(self, begin: int, end: int) -> torch.Tensor:
        """Of the matrix, in float32."""
        ...

    def select(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows by their numbers, in float32."""
        ...

    def rounded(self) -> Rounded:
        """All of it in 8 bits, in the file's own steps where these fit."""
        ...


@contextmanager
def shapes_only() -> Iterator[None]:
    """Read no weights: outputs have their shapes, and are zero."""
    token = _empty.set(True)
    try:
        yield
    finally:
        _empty.reset(token)


class StoredLinear(torch.nn.Module):  # type: ignore[misc]
    """A linear layer of a stored weight (outputs, inputs)."""

    def __init__(self, stored: StoredWeight, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = stored.shape
        self.stored = stored
        self.bias = bias

    @property
    def weight(self) -> torch.Tensor:
        """Read anew each time."""
        return self.stored.rows(0, self.out_features).to(self.stored.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = x.new_zeros(*x.shape[:-1], self.out_features)
        if _empty.get():
            return out
        step = max(1, CHUNK // self.in_features)
        for begin in range(0, self.out_features, step):
            end = min(begin + step, self.out_features)
            out[..., begin:end] = linear(x, self.stored.rows(begin, end).to(x.dtype))
        return out if self.bias is None else out + self.bias


class StoredEmbedding(torch.nn.Module):  # type: ignore[misc]
    """An embedding of a stored weight (ids, width)."""

    def __init__(self, stored: StoredWeight, module: torch.nn.Embedding | None = None) -> None:
        """In the place of a module without numbers, if it is in one's place."""
        super().__init__()
        self.num_embeddings, self.embedding_dim = stored.shape
        self.stored = stored
        self._scale = float(getattr(module, "scalar_embed_scale", 1.0))
        # Not as a part of this one.
        self._module = (module,)

    @property
    def weight(self) -> torch.Tensor:
        """Read anew each time."""
        return self.stored.rows(0, self.num_embeddings).to(self.stored.dtype)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        if _empty.get():
            return torch.zeros(*ids.shape, self.embedding_dim)
        return (self.stored.select(ids.reshape(-1)) * self._scale).view(*ids.shape, self.embedding_dim)

    def loaded(self, weight: torch.nn.Parameter) -> torch.nn.Embedding:
        """The module in whose place this one stands, with a weight."""
        (module,) = self._module
        assert module is not None
        module.weight = weight
        if self._scale != 1.0:
            module.embed_scale = torch.tensor(self._scale, device=weight.device)
        return module


def has_stored(model: torch.nn.Module) -> bool:
    return any(isinstance(module, StoredLinear) for module in model.modules())


def weight_type(linear: torch.nn.Linear | StoredLinear) -> torch.dtype:
    """The type of a layer's weight, which is not read."""
    return linear.stored.dtype if isinstance(linear, StoredLinear) else linear.weight.dtype


def rounded_weight(linear: torch.nn.Linear | StoredLinear) -> Rounded:
    """A layer's weight in 8 bits."""
    return linear.stored.rounded() if isinstance(linear, StoredLinear) else rounded(linear.weight)


def load_stored(model: torch.nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Put ordinary layers, whose weights are in memory, into the places of stored ones, one after another."""
    made: dict[int, torch.nn.Parameter] = {}
    for name, module in list(model.named_modules()):
        if not isinstance(module, StoredLinear | StoredEmbedding):
            continue
        key = id(module.stored)
        if key not in made:
            made[key] = torch.nn.Parameter(module.weight.to(device, dtype), requires_grad=False)
        loaded: torch.nn.Module
        if isinstance(module, StoredEmbedding):
            loaded = module.loaded(made[key])
        else:
            loaded = torch.nn.Linear(module.in_features, module.out_features, module.bias is not None, device="meta")
            loaded.weight = made[key]
            if module.bias is not None:
                loaded.bias = torch.nn.Parameter(module.bias.to(device, dtype), requires_grad=False)
        model.set_submodule(name, loaded)
