"""Waiting for the jobs of a chat engine, whichever it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ark.engines.chat import BackendStatus


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that the engine's thread does."""
    for _ in range(60_000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError


async def settled(chat: Any) -> BackendStatus:
    """Wait until the engine has nothing to do, and return its status."""
    await until(lambda: not (chat.backend.status().running or chat.backend.status().waiting))
    status: BackendStatus = chat.backend.status()
    return status


async def started(chat: Any, prompt: list[int], count: int, **more: Any) -> AsyncGenerator[Any, None]:
    """A job that has given its first token."""
    stream: AsyncGenerator[Any, None] = chat.backend.generate(chat.job(prompt, count, **more))
    while not (await anext(stream)).token_ids:
        pass
    return stream


@contextmanager
def intercepted(
    model: Any,
    *,
    before: Callable[[int], object] = lambda tokens: None,
    after: Callable[[Any], object] = lambda _: None,
) -> Iterator[None]:
    """Call functions with the number of tokens of each forward pass of torch_chat's, and with the logits that it
    gives."""
    runner = model.runner

    def forward(pieces: Any, wanted: Any) -> Any:
        before(sum(len(piece.token_ids) for piece in pieces))
        logits = type(runner).forward(runner, pieces, wanted)
        after(logits)
        return logits

    runner.forward = forward
    try:
        yield
    finally:
        del runner.forward
