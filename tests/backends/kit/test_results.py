"""Batches from a thread to the event loops that wait for them."""

import asyncio
import threading

import pytest

from ark.engines.chat import TokenBatch
from ark_backends.kit.results import Mailbox, Outbox

pytestmark = pytest.mark.anyio


async def test_unread_batches_are_merged():
    mailbox, outbox = Mailbox(), Outbox()
    for batch in (TokenBatch(cached_tokens=3), TokenBatch(token_ids=(1,)), TokenBatch(token_ids=(2, 3))):
        outbox.add(mailbox, batch)
    assert outbox.flush() == []
    outbox.add(mailbox, TokenBatch(token_ids=(4,), finish_reason="stop"))
    outbox.flush()
    await asyncio.sleep(0)
    assert await mailbox.get() == TokenBatch(cached_tokens=3)
    assert await mailbox.get() == TokenBatch(token_ids=(1, 2, 3, 4), finish_reason="stop")


async def test_tokens_before_an_error_are_not_lost():
    mailbox, outbox = Mailbox(), Outbox()
    outbox.add(mailbox, TokenBatch(token_ids=(1,)))
    outbox.add(mailbox, ValueError("broken"))
    outbox.flush()
    await asyncio.sleep(0)
    assert (await mailbox.get()).token_ids == (1,)
    with pytest.raises(ValueError, match="broken"):
        await mailbox.get()


async def test_one_call_per_loop_and_step(monkeypatch):
    calls = []
    loop = asyncio.get_running_loop()
    real = loop.call_soon_threadsafe

    def counted(*args):
        calls.append(args)
        return real(*args)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    mailboxes, outbox = [Mailbox() for _ in range(20)], Outbox()

    def step():
        for mailbox in mailboxes:
            outbox.add(mailbox, TokenBatch(token_ids=(7,)))
        outbox.flush()

    thread = threading.Thread(target=step)
    thread.start()
    batches = await asyncio.gather(*(mailbox.get() for mailbox in mailboxes))
    thread.join()
    assert [batch.token_ids for batch in batches] == [(7,)] * 20
    assert len(calls) == 1
    outbox.flush()
    assert len(calls) == 1


async def test_a_waiting_consumer_is_woken_for_each_step():
    mailbox, outbox = Mailbox(), Outbox()
    got = []

    async def consume():
        while not got or got[-1].finish_reason is None:
            got.append(await mailbox.get())

    task = asyncio.create_task(consume())
    for i in range(3):
        await asyncio.sleep(0.01)
        outbox.add(mailbox, TokenBatch(token_ids=(i,), finish_reason="length" if i == 2 else None))
        outbox.flush()
    await task
    assert [batch.token_ids for batch in got] == [(0,), (1,), (2,)]


async def test_mailboxes_of_a_closed_loop_are_given_back():
    def make():
        async def inner():
            return Mailbox()

        return asyncio.run(inner())

    gone, outbox, here = await asyncio.to_thread(make), Outbox(), Mailbox()
    outbox.add(gone, TokenBatch(token_ids=(1,)))
    outbox.add(here, TokenBatch(token_ids=(2,)))
    assert outbox.flush() == [gone]
    await asyncio.sleep(0)
    assert (await here.get()).token_ids == (2,)
