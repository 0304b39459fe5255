"""Backends that each misbehave in one way, on top of the echo backend. A test's configuration names them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

import anyio
import anyio.to_thread
import msgspec
from echo_backend import END, EchoBackend, EchoOptions

from ark.concurrency import load_in_thread
from ark.config import ModelConfig
from ark.engines.backend import Capabilities
from ark.engines.chat import BackendStatus, GenerationJob, TokenBatch
from ark.errors import TooManyRequests, Unavailable

Fault = Literal["queue_full", "engine", "bug", "panic", "exit", "hang", "silent_end"]

SECRET = "the internals of the engine"

EVERY_PARAMETER = frozenset(
    {
        *("temperature", "top_p", "top_k", "min_p", "seed", "stop_token_ids", "ignore_eos", "min_tokens"),
        *("frequency_penalty", "presence_penalty", "repetition_penalty", "logit_bias"),
        *("response_format", "tools", "tool_choice", "functions", "function_call"),
        *("reasoning_effort", "chat_template_kwargs"),
    }
)
"""Parameters that an engine may accept and ignore without changing the shape of its replies."""


class Panic(BaseException):
    """As the panics of libraries that are written in Rust."""


class FaultyOptions(EchoOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[models.engine]``"""

    fault: Fault | None = None
    when: Literal["admission", "prefill", "middle"] = "admission"
    reasoning: bool = False
    all_parameters: bool = False
    unable: bool = False
    """It has no capabilities, so it cannot be served."""


class Faulty(EchoBackend):
    """Fails when and how its options say; remembers its jobs."""

    latest: Faulty
    """The last one that was created, even if it failed later."""

    def __init__(self, model: ModelConfig) -> None:
        options = model.engine_options(FaultyOptions)
        plain = {"tokens_per_second": options.tokens_per_second, "prefill_seconds": options.prefill_seconds}
        super().__init__(msgspec.structs.replace(model, engine=plain))
        self._fault = options
        self.jobs: list[GenerationJob] = []
        self.alive = True
        self.closed = False
        parameters = self.capabilities.parameters
        if options.all_parameters:
            parameters |= EVERY_PARAMETER
        self.capabilities = Capabilities(parameters=parameters, reasoning=options.reasoning)
        if options.unable:
            del self.capabilities
        Faulty.latest = self

    def status(self) -> BackendStatus:
        return msgspec.structs.replace(super().status(), alive=self.alive)

    async def close(self) -> None:
        self.closed = True

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenBatch, None]:
        self.jobs.append(job)
        if self._fault.when == "admission":
            await self._fail()
        batches = super().generate(job)
        try:
            yield await anext(batches)
            if self._fault.when == "prefill":
                await self._fail()
            number = 0
            async for batch in batches:
                number += 1
                if number == 4 and self._fault.when == "middle" and self._fault.fault:
                    if self._fault.fault == "silent_end":
                        return
                    await self._fail()
                last = batch.token_ids[-1] if batch.token_ids else END
                if last in job.stop_token_ids and batch.finish_reason is None:
                    yield msgspec.structs.replace(batch, finish_reason="stop")
                    return
                yield batch
        finally:
            await batches.aclose()

    async def _fail(self) -> None:
        match self._fault.fault:
            case "queue_full":
                raise TooManyRequests("The queue is full.", retry_after=2.5)
            case "engine":
                raise Unavailable("The engine failed.", code="engine_failed")
            case "bug":
                raise ZeroDivisionError(SECRET)
            case "panic":
                raise Panic(SECRET)
            case "exit":
                raise SystemExit(SECRET)
            case "hang":
                await anyio.sleep_forever()


class FindsMoreLater(Faulty):
    """Reports one cached token when a job begins, and all but the last token of the prompt before its first token."""

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenBatch, None]:
        async with aclosing(super().generate(job)) as batches:
            yield msgspec.structs.replace(await anext(batches), cached_tokens=1)
            yield TokenBatch(cached_tokens=len(job.prompt) - 1)
            async for batch in batches:
                yield batch


class BadAtClosing(Faulty):
    """Raises when it is closed."""

    async def close(self) -> None:
        await super().close()
        raise ZeroDivisionError(SECRET)


class BadAtOpening(Faulty):
    """Raises when it is opened."""

    @classmethod
    async def open(cls, model: ModelConfig) -> BadAtOpening:
        raise ZeroDivisionError(SECRET)


class SlowToOpen(Faulty):
    """Opens after 0.2 s."""

    @classmethod
    async def open(cls, model: ModelConfig) -> SlowToOpen:
        await anyio.sleep(0.2)
        return cls(model)


class StuckInALibrary(Faulty):
    """Loads in a thread that nothing interrupts, for longer than any test waits."""

    @classmethod
    async def open(cls, model: ModelConfig) -> StuckInALibrary:
        await load_in_thread(lambda: time.sleep(600))
        raise AssertionError


class NeverOpens(Faulty):
    """Loads forever."""

    @classmethod
    async def open(cls, model: ModelConfig) -> NeverOpens:
        await anyio.sleep_forever()
        raise AssertionError
