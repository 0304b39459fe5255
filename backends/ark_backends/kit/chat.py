"""A chat backend over an engine that runs in a thread of its own: what is the same for all of ARK's engines.

This module is light: engines are imported when a model is opened.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio
import anyio.to_thread

from ark.concurrency import run_in_thread
from ark.engines.backend import Capabilities
from ark.engines.chat import BackendStatus, GenerationJob, SamplingParams, TokenBatch
from ark.engines.parameters import CHAT, honoured
from ark_backends.kit.results import Mailbox

if TYPE_CHECKING:
    from ark_backends.kit.grammar import Grammars, Matcher
    from ark_backends.kit.tokenizer import HFTokenizer

PARAMETERS = honoured(CHAT)

COMPILING = 4
"""Grammars compiled at the same time."""


class Limits(Protocol):
    """What an engine may take."""

    @property
    def context_length(self) -> int: ...


class Engine(Protocol):
    """Runs jobs in its own thread. Its methods may be called from any thread; `submit` from an event loop."""

    @property
    def limits(self) -> Limits: ...

    def close(self) -> None:
        """Fail what still runs and wait for the thread to end. May be called twice."""
        ...

    def submit(self, job: GenerationJob, matcher: Matcher | None = None) -> Mailbox:
        """Queue a job; its batches arrive in the mailbox. Raises the errors of `ChatBackend.generate`.

        `matcher` is the job's grammar, compiled; it belongs to the engine from now on.
        """
        ...

    def cancel(self, mailbox: Mailbox) -> None:
        """Stop a job before the next step; nothing if it is over."""
        ...

    def release(self, session: str) -> None: ...

    def status(self) -> BackendStatus: ...


class EngineChat:
    """All of `ark.engines.chat.ChatBackend` but `open`."""

    def __init__(
        self, engine: Engine, tokenizer: HFTokenizer, grammars: Grammars, default_sampling: SamplingParams
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._grammars = grammars
        self._default_sampling = default_sampling
        # Of the threads that all share, large schemas get so many.
        self._compiling = anyio.CapacityLimiter(COMPILING)

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._engine.close)

    @property
    def tokenizer(self) -> HFTokenizer:
        return self._tokenizer

    @property
    def context_length(self) -> int:
        return self._engine.limits.context_length

    @property
    def capabilities(self) -> Capabilities:
        template = self._tokenizer.chat_template or ""
        return Capabilities(parameters=PARAMETERS, reasoning="<think>" in template)

    @property
    def default_sampling(self) -> SamplingParams:
        return self._default_sampling

    def status(self) -> BackendStatus:
        return self._engine.status()

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenBatch, None]:
        matcher = None
        if job.grammar is not None:
            # A large schema takes long to compile; neither the event loop nor the engine waits for it.
            matcher = await run_in_thread(partial(self._grammars.compile, job.grammar), limiter=self._compiling)
        mailbox = self._engine.submit(job, matcher)
        left = job.n
        try:
            while left:
                batch = await mailbox.get()
                left -= batch.finish_reason is not None
                yield batch
        finally:
            self._engine.cancel(mailbox)

    def release(self, session: str) -> None:
        self._engine.release(session)
