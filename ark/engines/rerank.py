"""The protocol of a reranker, and the values that cross it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from ark.engines.backend import Backend
from ark.engines.embedding import EmbeddingStatus


class RerankJob(msgspec.Struct, frozen=True, kw_only=True):
    """The pairs of one request, to be scored together."""

    request_id: str
    pairs: Sequence[tuple[str, str]]
    """Queries, each with a document; at least one pair, no query empty."""
    owner: str = ""
    """Whose it is: owners with waiting jobs share an engine equally."""
    max_tokens: int | None = None
    """Tokens of a document that are read; the rest is left out."""
    max_chunks: int = 1
    """Pieces of a document that are read where query and document do not fit the model together."""


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What one pair became."""

    score: float
    """The model's own number, of any size: the logit. Of several pieces of a document the largest."""
    tokens: int
    """Tokens that the model read, special ones included."""


class RerankBackend(Backend, Protocol):
    """An opened reranker."""

    @property
    def max_length(self) -> int:
        """Tokens of a query and a document together, special ones included."""
        ...

    def status(self) -> EmbeddingStatus: ...

    async def rerank(self, job: RerankJob) -> Sequence[Score]:
        """Score the pairs of a job, in their order. Cancelling the call takes what still waits out of the queue.

        What does not fit is cut. Raises `ark.errors.TooManyRequests` at once when the queue is full,
        `ark.errors.BadRequest` with `param` as ``documents[3]`` for a pair that the model cannot read, and
        `ark.errors.Unavailable` when the engine fails.
        """
        ...
