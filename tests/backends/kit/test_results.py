"""Results from a thread to the event loops that wait for them."""

import asyncio
import threading

import pytest

from ark.engines.chat import TokenBatch
from ark_backends.kit.results import ResultBuffer, ResultQueue, TokenQueue

pytestmark = pytest.mark.anyio


async def test_unread_batches_are_merged():
    results, buffer = TokenQueue(), ResultBuffer()
    for batch in (TokenBatch(cached_tokens=3), TokenBatch(token_ids=(1,)), TokenBatch(token_ids=(2, 3))):
        buffer.add(results, batch)
    assert buffer.flush() == []
    buffer.add(results, TokenBatch(token_ids=(4,), finish_reason="stop"))
    buffer.flush()
    await asyncio.sleep(0)
    assert await results.get() == TokenBatch(cached_tokens=3)
    assert await results.get() == TokenBatch(token_ids=(1, 2, 3, 4), finish_reason="stop")


async def test_tokens_before_an_error_are_not_lost():
    results, buffer = TokenQueue(), ResultBuffer()
    buffer.add(results, TokenBatch(token_ids=(1,)))
    buffer.add(results, ValueError("broken"))
    buffer.flush()
    await asyncio.sleep(0)
    assert (await results.get()).token_ids == (1,)
    with pytest.raises(ValueError, match="broken"):
        await results.get()


async def test_replies_are_read_one_after_the_other():
    results, buffer = TokenQueue(), ResultBuffer()
    for token in range(4):
        buffer.add(results, TokenBatch(token_ids=(token,), index=token % 2))
    buffer.flush()
    await asyncio.sleep(0)
    assert [await results.get() for _ in range(2)] == [
        TokenBatch(token_ids=(0, 2)),
        TokenBatch(token_ids=(1, 3), index=1),
    ]


async def test_results_of_any_kind_come_one_by_one_and_then_the_error():
    results, buffer = ResultQueue[str](), ResultBuffer()
    for result in ("a", "b", ValueError("broken")):
        buffer.add(results, result)
    buffer.flush()
    assert [await results.get(), await results.get()] == ["a", "b"]
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            await results.get()


async def test_one_call_per_loop_and_step(monkeypatch):
    calls = []
    loop = asyncio.get_running_loop()
    real = loop.call_soon_threadsafe

    def counted(*args):
        calls.append(args)
        return real(*args)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    queues, buffer = [TokenQueue() for _ in range(20)], ResultBuffer()

    def step():
        for results in queues:
            buffer.add(results, TokenBatch(token_ids=(7,)))
        buffer.flush()

    thread = threading.Thread(target=step)
    thread.start()
    batches = await asyncio.gather(*(results.get() for results in queues))
    thread.join()
    assert [batch.token_ids for batch in batches] == [(7,)] * 20
    assert len(calls) == 1
    buffer.flush()
    assert len(calls) == 1


async def test_a_waiting_consumer_is_woken_for_each_step():
    results, buffer = TokenQueue(), ResultBuffer()
    got = []

    async def consume():
        while not got or got[-1].finish_reason is None:
            got.append(await results.get())

    task = asyncio.create_task(consume())
    for i in range(3):
        await asyncio.sleep(0.01)
        buffer.add(results, TokenBatch(token_ids=(i,), finish_reason="length" if i == 2 else None))
        buffer.flush()
    await task
    assert [batch.token_ids for batch in got] == [(0,), (1,), (2,)]


async def test_queues_of_a_closed_loop_are_returned():
    def make():
        async def inner():
            return TokenQueue()

        return asyncio.run(inner())

    gone, buffer, here = await asyncio.to_thread(make), ResultBuffer(), TokenQueue()
    buffer.add(gone, TokenBatch(token_ids=(1,)))
    buffer.add(here, TokenBatch(token_ids=(2,)))
    assert buffer.flush() == [gone]
    await asyncio.sleep(0)
    assert (await here.get()).token_ids == (2,)
