"""An end for replies that take too long."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import anyio
import pytest
from asgi_client import ECHO, backend_of, running

from ark.chat.output.deadline import within
from ark.engines.chat import TokenBatch

pytestmark = pytest.mark.anyio


class Engine:
    """Gives batches at their times, and knows whether it was closed."""

    def __init__(self, batches: Sequence[tuple[float, TokenBatch]]) -> None:
        self._batches = batches
        self.open = False

    async def generate(self) -> AsyncGenerator[TokenBatch, None]:
        self.open = True
        try:
            for pause, batch in self._batches:
                if pause:
                    await anyio.sleep(pause)
                yield batch
        finally:
            self.open = False


def token(number: int, index: int = 0) -> TokenBatch:
    return TokenBatch(token_ids=(number,), index=index)


ADMITTED = TokenBatch(cached_tokens=0)


async def test_a_reply_in_time_is_left_as_it_is() -> None:
    last = TokenBatch(token_ids=(3,), finish_reason="stop")
    batches = [ADMITTED, token(1), token(2), last]
    engine = Engine([(0, batch) for batch in batches])
    assert [batch async for batch in within(engine.generate(), 10)] == batches
    assert not engine.open


async def test_the_time_begins_with_the_first_token() -> None:
    engine = Engine([(0, ADMITTED), (0.2, token(1)), (0, token(2)), (30, token(3))])
    with anyio.fail_after(10):
        seen = [batch async for batch in within(engine.generate(), 0.05)]
    assert seen == [ADMITTED, token(1), token(2), TokenBatch(finish_reason="length")]
    assert not engine.open


async def test_replies_that_have_ended_do_not_end_again() -> None:
    ended = TokenBatch(token_ids=(9,), index=1, finish_reason="stop")
    engine = Engine([(0, ADMITTED), (0, token(1)), (0, ended), (0, token(2, 2)), (30, token(3))])
    with anyio.fail_after(10):
        seen = [batch async for batch in within(engine.generate(), 0.05, n=3)]
    assert seen[-2:] == [TokenBatch(index=0, finish_reason="length"), TokenBatch(index=2, finish_reason="length")]


async def test_an_engine_that_never_waits() -> None:
    async def generate() -> AsyncGenerator[TokenBatch, None]:
        while True:
            yield token(1)

    with anyio.fail_after(10):
        seen = [batch async for batch in within(generate(), 0.01)]
    assert seen[-1] == TokenBatch(finish_reason="length")


async def test_a_scope_of_the_reader_is_none_of_its_business() -> None:
    engine = Engine([(0, token(1)), (0, token(2)), (30, token(3))])
    with anyio.move_on_after(0.05) as scope:
        async for _ in within(engine.generate(), 20):
            pass
    assert scope.cancelled_caught
    assert not engine.open


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_that_takes_too_long_ends_with_length_and_is_kept(stream: bool) -> None:
    models = [ECHO | {"engine": {"tokens_per_second": 100}}]
    async with running(models=models, limits={"generation_seconds": 0.2}) as client:
        reply = await client.chat("hello " * 50, stream=stream)
        assert backend_of(client).status().running == 0
        listed = await client.get("/v1/sessions")
    assert reply.status == 200
    if stream:
        text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in reply.chunks)
        reason = reply.chunks[-1]["choices"][0]["finish_reason"]
        assert reply.events[-1].data == "[DONE]"
    else:
        (choice,) = reply.json()["choices"]
        text, reason = choice["message"]["content"], choice["finish_reason"]
    assert reason == "length"
    assert 0 < len(text) < 100
    assert ("hello " * 50).startswith(text)
    assert [session["messages"] for session in listed.json()["data"]] == [2]
