"""Scores by encoders that were trained as classifiers of a query with a document. This module is light."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio.from_thread

from ark.concurrency import run_in_thread, run_in_turn
from ark.config import ConfigError, ModelConfig
from ark.engines.backend import Capabilities
from ark.engines.embedding import EmbeddingStatus
from ark.engines.parameters import RERANK, honoured
from ark.engines.rerank import RerankBackend, RerankJob, Score
from ark_backends.bge.options import BgeOptions
from ark_backends.kit.engine_backend import EngineBackend

if TYPE_CHECKING:
    from ark_backends.bge.encoder import Item
    from ark_backends.bge.engine import BgeEngine
    from ark_backends.bge.pairs import PairReader


class BgeReranker(EngineBackend):
    """`ark.engines.rerank.RerankBackend` on classifiers of transformers."""

    _engine: BgeEngine

    def __init__(self, engine: BgeEngine, reader: PairReader) -> None:
        super().__init__(engine)
        self.max_length = reader.max_length
        self.capabilities = Capabilities(parameters=honoured(RERANK) - {"rank_fields"})
        self._reader = reader

    @classmethod
    def _load(cls, model: ModelConfig) -> tuple[Any, ...]:
        options = model.engine_options(BgeOptions)
        try:
            from ark_backends.bge.opening import open_reranker  # noqa: PLC0415 - torch is loaded only here
        except ImportError as error:
            raise ConfigError(f"the backend bge needs ark-server[embeddings]: {error}") from error
        return open_reranker(model, options)

    def status(self) -> EmbeddingStatus:
        return self._engine.status()

    async def rerank(self, job: RerankJob) -> Sequence[Score]:
        results = self._engine.enter(len(job.pairs))
        run = run_in_turn if self._reader.are_long(job) else run_in_thread

        def tokenize_and_submit() -> Sequence[Item]:
            items = self._reader.read_pairs(job, anyio.from_thread.check_cancelled)
            self._engine.submit_pairs(results, job, items)
            return items

        try:
            items = await run(tokenize_and_submit)
            return _best(len(job.pairs), items, await results.get())
        finally:
            self._engine.cancel(results)


def _best(pairs: int, items: Sequence[Item], scores: Sequence[Score]) -> list[Score]:
    """The score of each pair: the best of its pieces, with the tokens of all."""
    found: list[Score | None] = [None] * pairs
    for item, score in zip(items, scores, strict=True):
        before = found[item.input]
        if before is not None:
            found[item.input] = Score(score=max(before.score, score.score), tokens=before.tokens + score.tokens)
        else:
            found[item.input] = score
    return [score for score in found if score is not None]


if TYPE_CHECKING:
    _conforms: type[RerankBackend] = BgeReranker
