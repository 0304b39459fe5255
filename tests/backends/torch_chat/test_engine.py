"""Jobs in the engine: cancelling, failing, waiting, and the memory they take."""

import asyncio
import gc
import queue
import threading
from contextlib import aclosing, contextmanager

import pytest
from engine_jobs import intercepted, settled, started, until

from ark.engines.chat import SamplingParams
from ark.errors import BadRequest, ContextLengthExceeded, TooManyRequests

pytestmark = pytest.mark.anyio


class Gate:
    """Holds the engine at the start of each forward pass until the test lets it go."""

    def __init__(self):
        self.arrived = queue.SimpleQueue()
        self.go = threading.Semaphore(0)
        self.open = False

    def wait(self, tokens):
        if not self.open:
            self.arrived.put(tokens)
            self.go.acquire()

    async def step(self):
        """Let one pass begin; returns its number of tokens."""
        tokens = await asyncio.to_thread(self.arrived.get)
        self.go.release()
        return tokens


@contextmanager
def gated(model):
    gate = Gate()
    try:
        with intercepted(model, before=gate.wait):
            yield gate
    finally:
        gate.open = True
        gate.go.release()


async def test_batches_of_a_job(llama, opened, words):
    async with opened(llama) as chat:
        batches = [batch async for batch in chat.backend.generate(chat.job(words(10), 5))]
        assert batches[0].cached_tokens == 0
        assert not batches[0].token_ids
        assert all(batch.cached_tokens is None for batch in batches[1:])
        assert [batch.finish_reason for batch in batches[:-1]] == [None] * (len(batches) - 1)
        assert batches[-1].finish_reason == "length"


async def test_stop_id_is_included_and_ends(llama, opened, words):
    async with opened(llama) as chat:
        tokens = llama.greedy(words(10), 12)
        stop = tokens[4]
        reply = await chat.run(words(10), 12, stop_token_ids=frozenset({stop}))
        assert reply.finish == "stop"
        assert reply.tokens == tokens[: tokens.index(stop) + 1]


async def test_counters(llama, opened, words):
    async with opened(llama) as chat:
        await chat.run(words(40), 6)
        await chat.run(words(40), 6)
        status = chat.backend.status()
        assert (status.alive, status.running, status.waiting) == (True, 0, 0)
        assert status.prompt_tokens_computed == 41
        assert status.prompt_tokens_cached == 39
        assert status.tokens_generated == 12
        assert status.jobs_finished == 2
        # 40 prompt tokens in pieces of 32, then one step per token; the second needs no prefill step.
        assert status.steps == 2 + 5 + 6
        assert status.kv_budget == llama.kv(20_000)


async def test_closing_cancels_within_one_step(llama, opened, words):
    async with opened(llama) as chat:
        other = await started(chat, words(30), 400)
        stream = await started(chat, words(20), 400)
        with gated(llama) as gate:
            while await gate.step() != 2:
                pass
            held = chat.backend.status().kv_bytes
            # The next step may be under way already: it is the last one with the cancelled job in it.
            await stream.aclose()
            assert await gate.step() <= 2
            assert await gate.step() == 1
            status = chat.backend.status()
            assert (status.jobs_cancelled, status.running, status.waiting) == (1, 1, 0)
            assert status.kv_bytes <= held
        await other.aclose()


async def test_a_cancelled_task_cancels_its_job(llama, opened, words):
    async with opened(llama) as chat:
        task = asyncio.create_task(chat.run(words(20), 400))
        await until(lambda: chat.backend.status().tokens_generated)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        status = await settled(chat)
        assert status.jobs_cancelled == 1


async def test_many_cancels_leave_memory_as_it_was(llama, opened, words):
    import psutil

    process = psutil.Process()
    async with opened(llama, kv_bytes=llama.kv(30_000)) as chat:

        async def cancel_some(count):
            for i in range(count):
                async with aclosing(await started(chat, words(300), 200, session=f"s{i}")):
                    pass
            for i in range(count):
                chat.backend.release(f"s{i}")
            await chat.run(words(3), 1)
            gc.collect()

        # The first round leaves what the allocator keeps for itself.
        await cancel_some(200)
        kv, resident = chat.backend.status().kv_bytes, process.memory_info().rss
        await cancel_some(200)
        status = chat.backend.status()
        assert status.jobs_cancelled == 400
        assert status.kv_bytes == kv
        # The KV of 200 prompts would be 23 MB.
        assert 200 * llama.kv(300) > 20e6
        assert process.memory_info().rss - resident < 10e6


async def test_what_a_cancelled_job_computed_is_reused(llama, opened, words):
    async with opened(llama) as chat:
        stream = await started(chat, words(60), 100, session="s")
        await stream.aclose()
        again = await chat.matches(words(60), 10, session="s")
        assert again.cached == 59


async def test_a_full_queue_refuses_at_once(llama, opened, words):
    async with opened(llama, max_running=1, max_queue=2) as chat:
        inside = [asyncio.create_task(chat.run(words(10, i), 200)) for i in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests) as error:
            await chat.run(words(5), 1)
        assert error.value.status == 429
        assert chat.backend.status().tokens_generated < 600
        assert [reply.finish for reply in await asyncio.gather(*inside)] == ["length"] * 3
        assert max(lengths.count(1) for lengths in chat.runner.passes) == 1
        await chat.matches(words(5), 1)


async def test_what_can_never_run_is_refused(llama, opened, words):
    async with opened(llama, kv_bytes=llama.kv(100)) as chat:
        with pytest.raises(ContextLengthExceeded):
            await chat.run(words(500), 13)
        with pytest.raises(ContextLengthExceeded, match="memory"):
            await chat.run(words(90), 20)
        for prompt, count in (([], 5), ([1], 0), ([-1], 5), ([199], 5)):
            with pytest.raises(BadRequest):
                await chat.run(prompt, count)
        assert (await chat.matches(words(90), 11)).finish == "length"


async def test_running_streams_wait_for_one_chunk_at_most(llama, opened, words):
    async with opened(llama, prefill_chunk=32) as chat:
        streams = [asyncio.create_task(chat.run(words(10, i), 200)) for i in range(3)]
        await until(lambda: chat.backend.status().tokens_generated >= 30)
        begun = chat.backend.status().steps
        await chat.matches(words(400), 2)
        busy = [lengths for lengths in chat.runner.passes[begun:] if max(lengths) > 1]
        prompt_tokens = [sum(length for length in lengths if length > 1) for lengths in busy]
        assert sum(prompt_tokens) == 400
        # Every step of the long prompt also had a token for each of the three streams.
        assert all(lengths.count(1) == 3 for lengths in busy)
        assert max(prompt_tokens) == 32
        await asyncio.gather(*streams)


async def test_a_short_prompt_does_not_wait_for_a_long_one(llama, opened, words):
    expected = llama.greedy(words(16), 1)
    async with opened(llama, prefill_chunk=32) as chat:
        with gated(llama) as gate:
            long_one = asyncio.create_task(chat.run(words(480), 2))
            await gate.step()
            await until(lambda: chat.backend.status().prompt_tokens_computed >= 32)
            begun = chat.backend.status().prompt_tokens_computed
            short_one = asyncio.create_task(chat.run(words(16), 1))
            await until(lambda: chat.backend.status().waiting == 1)
            for _ in range(3):
                await gate.step()
            async with asyncio.timeout(10):
                assert (await short_one).tokens == expected
            assert chat.backend.status().prompt_tokens_computed - begun <= 16 + 3 * 32
            assert not long_one.done()
        assert (await long_one).tokens == llama.greedy(words(480), 2)


async def test_seeds_do_not_depend_on_what_else_runs(llama, opened, words):
    sampled = SamplingParams(temperature=1.0, top_p=0.9, seed=11)
    async with opened(llama) as chat:
        alone = await chat.run(words(20), 40, sampling=sampled)
        noise = [
            asyncio.create_task(chat.run(words(15, i), 60, sampling=SamplingParams(seed=i, top_k=5 * i)))
            for i in range(4)
        ]
        beside = await chat.run(words(20), 40, sampling=sampled, owner="other")
        other = await chat.run(words(20), 40, sampling=SamplingParams(temperature=1.0, top_p=0.9, seed=12))
        await asyncio.gather(*noise)
        assert beside.cached == 0
        assert beside.tokens == alone.tokens
        assert other.tokens != alone.tokens


async def test_release_frees_a_session(llama, opened, words):
    async with opened(llama) as chat:
        await chat.run(words(60), 10, session="kept")
        kept = chat.backend.status().kv_bytes
        await chat.run(words(50, 1), 10, session="gone")
        running = await started(chat, words(40, 2), 300, session="gone")
        chat.backend.release("gone")
        await running.aclose()
        assert (await chat.run(words(50, 1), 1)).cached == 0
        assert (await chat.run(words(40, 2), 1)).cached == 0
        assert (await chat.run(words(60), 1, session="kept")).cached == 59
        assert chat.backend.status().kv_bytes <= kept + llama.kv(50 + 40 + 2 * 128)


async def test_a_sessions_next_turn_goes_on_in_the_same_memory(llama, opened, words):
    async with opened(llama) as chat:
        first = await chat.run(words(60), 10, session="s")
        (cached,) = chat.backend._engine._cache._idle
        place = cached.kv.data.data_ptr()
        second = await chat.run([*words(60), *first.tokens, *words(20, 1)], 10, session="s")
        assert second.cached == 69
        assert list(chat.backend._engine._cache._idle) == [cached]
        assert cached.kv.data.data_ptr() == place


async def test_owners_share_nothing(llama, opened, words):
    async with opened(llama) as chat:
        await chat.run(words(60), 10, session="s", owner="a")
        assert (await chat.run(words(60), 2, session="s", owner="b")).cached == 0
        assert (await chat.run(words(60), 2, session="s", owner="a")).cached == 59


async def test_two_jobs_of_one_session_at_once(llama, opened, words):
    async with opened(llama) as chat:
        first = await chat.matches(words(40), 10, session="s")
        transcript = words(40) + first.tokens
        # They come in one step: one that came later would find what the others had read by then.
        with gated(llama) as gate:
            other = asyncio.create_task(chat.run(words(20, 9), 2))
            await asyncio.to_thread(gate.arrived.get)
            jobs = [asyncio.create_task(chat.matches(transcript + words(5, i), 30, session="s")) for i in range(3)]
            await until(lambda: chat.backend.status().waiting == 3)
        replies = await asyncio.gather(*jobs)
        await other
        assert [reply.cached for reply in replies] == [49, 49, 49]
