"""A chat backend over a `ChatEngine`: the same for all of ARK's chat engines.

This module is light: engines are imported when a model is opened.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from ark.engines.backend import Capabilities
from ark.engines.chat import BackendStatus, GenerationJob, SamplingParams, TokenBatch
from ark.engines.parameters import CHAT, honoured
from ark_backends.kit.engine_backend import EngineBackend
from ark_backends.kit.grammar_queue import GrammarQueue

if TYPE_CHECKING:
    from ark_backends.kit.chat_engine import ChatEngine
    from ark_backends.kit.grammar import Grammars
    from ark_backends.kit.tokenizer import HFTokenizer

PARAMETERS = honoured(CHAT)


class ChatBackendBase(EngineBackend):
    """All of `ark.engines.chat.ChatBackend`, given how a model is loaded."""

    _engine: ChatEngine[Any]

    def __init__(
        self, engine: ChatEngine[Any], tokenizer: HFTokenizer, grammars: Grammars, default_sampling: SamplingParams
    ) -> None:
        super().__init__(engine)
        self.tokenizer = tokenizer
        self.default_sampling = default_sampling
        self._grammars = GrammarQueue(grammars)

    @property
    def context_length(self) -> int:
        return self._engine.limits.context_length

    @property
    def capabilities(self) -> Capabilities:
        template = self.tokenizer.chat_template or ""
        return Capabilities(parameters=PARAMETERS, reasoning="<think>" in template)

    def status(self) -> BackendStatus:
        return self._engine.status()

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenBatch, None]:
        matcher = None
        if job.grammar is not None:
            # A large schema takes long to compile; neither the event loop nor the engine waits for it.
            matcher = await self._grammars.compile(job.grammar, job.owner)
        results = self._engine.submit(job, matcher)
        left = job.n
        try:
            while left:
                batch = await results.get()
                left -= batch.finish_reason is not None
                yield batch
        finally:
            self._engine.cancel(results)

    async def close(self) -> None:
        self._grammars.close()
        await super().close()

    def release(self, session: str) -> None:
        self._engine.release(session)
