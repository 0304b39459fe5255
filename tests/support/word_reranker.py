"""A reranker that counts a query's words in a document, and misbehaves in one way if its options say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import anyio
import msgspec

from ark.config import ModelConfig
from ark.engines.backend import Capabilities
from ark.engines.embedding import EmbeddingStatus
from ark.engines.parameters import RERANK, honoured
from ark.engines.rerank import RerankJob, Score
from ark.errors import BadRequest, TooManyRequests, Unavailable


class WordOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[models.engine]``"""

    fault: Literal["queue_full", "engine", "hang", "unreadable"] | None = None
    scale: float = 1.0


class WordReranker:
    """Words in common less one are the logit; remembers its jobs, and those that were cancelled."""

    capabilities = Capabilities(parameters=honoured(RERANK) - {"rank_fields"})
    max_length = 512

    def __init__(self, model: ModelConfig) -> None:
        self._options = model.engine_options(WordOptions)
        self.jobs: list[RerankJob] = []
        self.cancelled: list[RerankJob] = []

    @classmethod
    async def open(cls, model: ModelConfig) -> WordReranker:
        return cls(model)

    async def close(self) -> None:
        return

    def status(self) -> EmbeddingStatus:
        return EmbeddingStatus(alive=True, inputs=sum(len(job.pairs) for job in self.jobs))

    async def rerank(self, job: RerankJob) -> Sequence[Score]:
        self.jobs.append(job)
        match self._options.fault:
            case "queue_full":
                raise TooManyRequests("The queue is full.", retry_after=2.5, code="queue_full")
            case "engine":
                raise Unavailable("The engine failed.", code="engine_failed")
            case "unreadable":
                raise BadRequest("documents[1] is too strange.", param="documents[1]", code="invalid_value")
            case "hang":
                try:
                    await anyio.sleep_forever()
                except anyio.get_cancelled_exc_class():
                    self.cancelled.append(job)
                    raise
        return [self._score(query.split(), document.split()) for query, document in job.pairs]

    def _score(self, query: Sequence[str], document: Sequence[str]) -> Score:
        common = len({*query} & {*document})
        return Score(score=self._options.scale * (common - 1), tokens=len(query) + len(document))
