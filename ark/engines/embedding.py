"""The protocol of an embedding engine, and the values that cross it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from ark.engines.backend import Backend, EngineStatus


class EmbeddingJob(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of one request, to be embedded together."""

    request_id: str
    inputs: Sequence[str | Sequence[int]]
    """Texts, or token ids of the model's own tokenizer; at least one, none empty. Special tokens that the model reads
    around a text are added by the backend, to ids only where they are not there."""
    owner: str = ""
    """Whose it is: owners with waiting jobs share an engine equally."""
    truncate: bool = False
    """Cut an input that is over `EmbeddingBackend.max_length`, which is refused otherwise."""
    dimensions: int | None = None
    """One of `EmbeddingBackend.dimensions`; the first, the model's own, where it is None."""
    sparse: bool = False
    """Also the weight of each token of an input."""
    colbert: bool = False
    """Also a vector for each token of an input."""


class Embedding(msgspec.Struct, frozen=True, kw_only=True):
    """What one input became. Vectors are rows of float32 in little-endian order, as OpenAI's base64 has them."""

    dense: bytes
    """One vector of the job's dimensions, ``4 * dimensions`` bytes; of length 1 unless the model's own files or its
    configuration say otherwise."""
    tokens: int
    """Tokens that the model read, special ones included."""
    sparse: Mapping[int, float] | None = None
    """Token id to its weight, over 0, where the job asks for it."""
    colbert: Sequence[bytes] | None = None
    """One vector of length 1 for each token but the first, where the job asks for them."""


class EmbeddingStatus(EngineStatus, frozen=True, kw_only=True):
    """A snapshot of an embedding engine, or of a reranker's."""

    batches: int = 0
    inputs: int = 0
    """Inputs embedded, or pairs scored."""
    tokens: int = 0
    """Tokens of these inputs, special ones included."""
    padded_tokens: int = 0
    """Places in the batches that held no token."""


class EmbeddingBackend(Backend, Protocol):
    """An opened embedding model."""

    @property
    def max_length(self) -> int:
        """Tokens of one input, special ones included."""
        ...

    @property
    def dimensions(self) -> Sequence[int]:
        """Sizes that a vector can have: the model's own, then the smaller ones that it was trained for."""
        ...

    def status(self) -> EmbeddingStatus: ...

    async def embed(self, job: EmbeddingJob) -> Sequence[Embedding]:
        """Embed the inputs of a job, in their order. Cancelling the call takes what still waits out of the queue.

        Raises `ark.errors.TooManyRequests` at once when the queue is full, `ark.errors.ContextLengthExceeded` and
        `ark.errors.BadRequest` with `param` as ``input[3]`` for an input that the model cannot read, and
        `ark.errors.Unavailable` when the engine fails.
        """
        ...
