"""Embeddings and scores by encoder-only models: BGE, BGE-M3, its rerankers and BERT's relatives.

This module is light: torch and transformers are imported when a model is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self, cast

import anyio
import anyio.from_thread

from ark.concurrency import run_in_thread, run_in_turn
from ark.config import ConfigError, ModelConfig, Task
from ark.engines.backend import Capabilities, Detection
from ark.engines.embedding import Embedding, EmbeddingBackend, EmbeddingJob, EmbeddingStatus
from ark.engines.model_files import ModelFiles
from ark.engines.parameters import EMBEDDINGS, honoured
from ark.engines.rerank import RerankJob, Score
from ark_backends.bge.options import BgeOptions
from ark_backends.bge.reranker import BgeReranker
from ark_backends.kit import pinned_models
from ark_backends.kit.engine_backend import EngineBackend
from ark_backends.kit.local_models import LocalModels

if TYPE_CHECKING:
    from ark_backends.bge.engine import BgeEngine
    from ark_backends.bge.tokens import Reader

__all__ = ["Bge", "BgeOptions"]

HEADS = frozenset({"ark_sparse", "ark_colbert"})
"""Parameters that need BGE-M3's heads."""
PARAMETERS = honoured(EMBEDDINGS) - HEADS


class Bge(LocalModels, EngineBackend):
    """`ark.engines.embedding.EmbeddingBackend` on encoders of transformers. Of a reranker, `open` returns another."""

    extras = "ark-server[embeddings]"
    modules = ("torch", "transformers", "tiktoken")

    _engine: BgeEngine

    def __init__(self, engine: BgeEngine, reader: Reader, dimensions: Sequence[int], heads: bool = False) -> None:
        super().__init__(engine)
        self.max_length = reader.max_length
        self.dimensions = tuple(dimensions)
        self.capabilities = Capabilities(parameters=PARAMETERS | HEADS if heads else PARAMETERS)
        self._reader = reader

    @classmethod
    def default_for(cls, task: Task) -> ModelConfig | None:
        if task != "embedding":
            return None
        pinned = pinned_models.EMBEDDING
        # In one fixed type, so that its vectors are the same everywhere.
        return ModelConfig(name=pinned.name, task="embedding", path=str(pinned.path), engine={"dtype": "float32"})

    @classmethod
    def detect(cls, files: ModelFiles) -> Detection | None:
        return Detection(1, f"for {files.task} models") if files.task in ("embedding", "rerank") else None

    @classmethod
    async def open(cls, model: ModelConfig) -> Self:
        if model.task == "rerank":
            return cast(Self, await BgeReranker.open(model))
        return await super().open(model)

    @classmethod
    def _load(cls, model: ModelConfig) -> tuple[Any, ...]:
        options = model.engine_options(BgeOptions)
        try:
            from ark_backends.bge.opening import open_model  # noqa: PLC0415 - torch is loaded only here
        except ImportError as error:
            raise ConfigError(f"the backend bge needs {cls.extras}: {error}") from error
        return open_model(model, options)

    def status(self) -> EmbeddingStatus:
        return self._engine.status()

    async def embed(self, job: EmbeddingJob) -> Sequence[Embedding]:
        results = self._engine.enter(len(job.inputs))
        run = run_in_turn if self._reader.is_long(job) else run_in_thread

        def tokenize_and_submit() -> None:
            self._engine.submit(results, job, self._reader.read(job, anyio.from_thread.check_cancelled))

        try:
            await run(tokenize_and_submit)
            return await results.get()
        finally:
            self._engine.cancel(results)

    async def rerank(self, job: RerankJob) -> Sequence[Score]:
        """By this method the server knows that the backend does the task."""
        raise NotImplementedError


if TYPE_CHECKING:
    _conforms: type[EmbeddingBackend] = Bge
