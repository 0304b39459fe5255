"""Engines over the generators' own code and a model of arithmetic, on a CPU."""

from __future__ import annotations

import importlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import paged_model
import pytest

from ark.engines.chat import GenerationJob, SamplingParams


@dataclass
class Reply:
    """All that a job gave."""

    tokens: list[int] = field(default_factory=list)
    cached: int | None = None
    finish: str | None = None


class Chat:
    """A backend over a model of arithmetic, with short words for what tests say."""

    def __init__(
        self, model: Any, generator: Any, *, context_length: int, max_running: int, max_queue: int, by_hand: bool
    ) -> None:
        """With `by_hand` the engine has no thread: the test turns it."""
        from ark_backends.exllama import ExLlamaV2
        from ark_backends.exllama.engine import ExLlamaEngine
        from ark_backends.kit.chat_engine import ChatLimits
        from ark_backends.kit.grammar import Grammars

        self.model = model
        self.generator = generator
        limits = ChatLimits(context_length=context_length, max_running=max_running, max_queue=max_queue)
        self.engine = ExLlamaEngine(generator, limits)
        unused: Any = None
        grammars = Grammars([b"a"], hidden=[], ends=[])
        self.backend = ExLlamaV2(self.engine, unused, grammars, SamplingParams())
        if not by_hand:
            self.engine.start()

    def job(self, prompt: list[int], count: int, **more: Any) -> GenerationJob:
        sampling = more.pop("sampling", SamplingParams(temperature=0.0))
        return GenerationJob(request_id="test", prompt=prompt, max_tokens=count, sampling=sampling, **more)

    async def run(self, prompt: list[int], count: int, **more: Any) -> Reply:
        reply = Reply()
        async for batch in self.backend.generate(self.job(prompt, count, **more)):
            reply.tokens += batch.token_ids
            reply.finish = batch.finish_reason
            if batch.cached_tokens is not None:
                reply.cached = batch.cached_tokens
        return reply

    async def matches(self, prompt: list[int], count: int, **more: Any) -> Reply:
        """Run a greedy job and compare it with plain arithmetic."""
        reply = await self.run(prompt, count, **more)
        assert reply.tokens == paged_model.greedy(prompt, count)
        return reply


Opened = Callable[..., AbstractAsyncContextManager[Chat]]


@pytest.fixture(scope="session", params=["exllamav2", "exllamav3"])
def package(request: pytest.FixtureRequest) -> str:
    """The real package, over a stand-in for its compiled part."""
    name: str = request.param
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    importlib.import_module(f"{name}_stub").install()
    return name


@pytest.fixture
def opened(package: str) -> Opened:
    @asynccontextmanager
    async def open_chat(
        *,
        pages: int = 16,
        context_length: int = 3000,
        max_running: int = 4,
        max_queue: int = 100,
        by_hand: bool = False,
        draft_tokens: int = 0,
        **more: Any,
    ) -> AsyncIterator[Chat]:
        make_cache = importlib.import_module(f"{package}_stub").Cache
        version = "V2" if package == "exllamav2" else "V3"
        make_generator = getattr(importlib.import_module(f"ark_backends.exllama.{version.lower()}"), version)
        make_options = getattr(importlib.import_module("ark_backends.exllama.options"), f"ExLlama{version}Options")
        model = paged_model.ArithmeticModel()
        draft = None
        if draft_tokens:
            guesser = paged_model.ArithmeticModel(wrong_every=3)
            draft = guesser, make_cache(guesser, 256 * pages)
        values = {"reserve": 256, "prefill_chunk": 512, "max_running": max_running, "draft_tokens": draft_tokens or 4}
        options = make_options(**values | more)
        generator = make_generator(model, make_cache(model, 256 * pages), options, page_bytes=1, draft=draft)
        chat = Chat(
            model,
            generator,
            context_length=context_length,
            max_running=max_running,
            max_queue=max_queue,
            by_hand=by_hand,
        )
        try:
            yield chat
        finally:
            await chat.backend.close()
            if by_hand:
                generator.close()

    return open_chat


@pytest.fixture
def words() -> Callable[..., list[int]]:
    """A random prompt: its length, and what tells it from others of that length."""

    def make(length: int, seed: int = 0) -> list[int]:
        draw = random.Random(f"{length}/{seed}")
        return [draw.randrange(3, paged_model.VOCABULARY) for _ in range(length)]

    return make
