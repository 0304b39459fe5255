"""Embedding backends that each misbehave in one way, on top of HashEmbeddings. A test's configuration names them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Literal

import anyio
import msgspec
from hash_embeddings import HashEmbeddings

from ark.config import ModelConfig
from ark.engines.embedding import Embedding, EmbeddingJob, EmbeddingStatus
from ark.errors import TooManyRequests, Unavailable

SECRET = "the internals of the engine"


class FaultyOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[models.engine]``"""

    fault: Literal["queue_full", "engine", "bug", "hang"] | None = None
    colbert: bool = False


class Faulty(HashEmbeddings):
    """Fails when and how its options say; remembers its jobs, and those that were cancelled."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model)
        self._options = model.engine_options(FaultyOptions)
        self.jobs: list[EmbeddingJob] = []
        self.cancelled: list[EmbeddingJob] = []
        self.counters: dict[str, Any] = {}
        """Override fields of the status."""
        if self._options.colbert:
            parameters = self.capabilities.parameters | {"ark_colbert"}
            self.capabilities = msgspec.structs.replace(self.capabilities, parameters=parameters)

    def status(self) -> EmbeddingStatus:
        return msgspec.structs.replace(super().status(), **self.counters)

    async def embed(self, job: EmbeddingJob) -> Sequence[Embedding]:
        self.jobs.append(job)
        match self._options.fault:
            case "queue_full":
                raise TooManyRequests("The queue is full.", retry_after=2.5)
            case "engine":
                raise Unavailable("The engine failed.", code="engine_failed")
            case "bug":
                raise ZeroDivisionError(SECRET)
            case "hang":
                try:
                    await anyio.sleep_forever()
                except anyio.get_cancelled_exc_class():
                    self.cancelled.append(job)
                    raise
        embeddings = await super().embed(job)
        if not job.colbert:
            return embeddings
        return [
            msgspec.structs.replace(one, colbert=[struct.pack("<2f", 1.0, row / 2) for row in range(one.tokens - 1)])
            for one in embeddings
        ]


class NeverOpens(Faulty):
    """Loads forever."""

    @classmethod
    async def open(cls, model: ModelConfig) -> NeverOpens:
        await anyio.sleep_forever()
        raise AssertionError
