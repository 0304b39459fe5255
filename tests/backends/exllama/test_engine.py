"""Jobs in the engine over the real dynamic generator: batches, reuse, waiting, cancelling and failing."""

import asyncio

import paged_model
import pytest
from engine_jobs import settled, started, until

from ark.engines.chat import SamplingParams
from ark.errors import BadRequest, ContextLengthExceeded, TooManyRequests

pytestmark = pytest.mark.anyio


async def batches_told(chat, prompt):
    """What a job tells of its prompt's tokens that were there, each time that it does, before its first token."""
    told, said = [], 0
    async for batch in chat.backend.generate(chat.job(prompt, 3)):
        if batch.cached_tokens is not None:
            assert not said
            told.append(batch.cached_tokens)
        said += len(batch.token_ids)
    return told


async def test_batches_of_a_job(opened, words):
    async with opened() as chat:
        batches = [batch async for batch in chat.backend.generate(chat.job(words(10), 5))]
        assert batches[0].cached_tokens == 0
        assert not batches[0].token_ids
        assert all(batch.cached_tokens is None for batch in batches[1:])
        assert [batch.finish_reason for batch in batches[:-1]] == [None] * (len(batches) - 1)
        assert batches[-1].finish_reason == "length"
        said = [token for batch in batches for token in batch.token_ids]
        assert said == paged_model.greedy(words(10), 5)


@pytest.mark.parametrize("length", [1, 2, 255, 256, 257, 513, 1200])
async def test_a_conversation_goes_on_from_all_its_tokens_but_the_last(opened, words, length):
    async with opened() as chat:
        prompt = words(length)
        for turn in range(3):
            reply = await chat.matches(prompt, 30, session="s")
            # The last token of a reply has no KV yet. One token alone is not worth a copy to the generator.
            assert reply.cached == (len(prompt) - 5 if turn else 0)
            prompt = prompt + reply.tokens + words(4, turn)


async def test_a_cached_prompt_is_computed_from_its_last_token(opened, words):
    async with opened() as chat:
        await chat.run(words(700), 10)
        chat.model.passes.clear()
        await chat.matches(words(700), 10)
        assert chat.model.passes == [(1, 1)] * 10


async def test_stop_id_is_included_and_ends(opened, words):
    async with opened() as chat:
        tokens = paged_model.greedy(words(10), 12)
        stop = tokens[4]
        reply = await chat.run(words(10), 12, stop_token_ids=frozenset({stop}))
        assert reply.finish == "stop"
        assert reply.tokens == tokens[: tokens.index(stop) + 1]


async def test_a_stopped_reply_is_continued_with_its_stop_id(opened, words):
    async with opened() as chat:
        tokens = paged_model.greedy(words(300), 12)
        reply = await chat.run(words(300), 12, stop_token_ids=frozenset({tokens[4]}), session="s")
        again = await chat.matches(words(300) + reply.tokens + [5, 6], 4, session="s")
        assert again.cached == 300 + len(reply.tokens) - 1


async def test_counters(opened, words):
    async with opened() as chat:
        await chat.run(words(40), 6)
        await chat.run(words(40), 6)
        status = chat.backend.status()
        assert (status.alive, status.running, status.waiting) == (True, 0, 0)
        assert status.prompt_tokens_computed == 41
        assert status.prompt_tokens_cached == 39
        assert status.tokens_generated == 12
        assert status.jobs_finished == 2
        assert status.steps == 12
        assert (status.kv_bytes, status.kv_budget) == (2, 16)


async def test_replies_longer_than_what_is_set_aside(opened, words):
    async with opened(reserve=256, pages=8, context_length=2000) as chat:
        long = await chat.matches(words(300), 1500)
        assert long.finish == "length"
        assert chat.backend.status().jobs_finished == 1


async def test_long_replies_run_beside_each_other_though_all_of_them_would_not_fit(opened, words):
    async with opened(pages=8, context_length=2048, max_running=4) as chat:
        streams = [await started(chat, words(20, i), 2000) for i in range(4)]
        assert chat.backend.status().running == 4
        for stream in streams:
            await stream.aclose()


async def test_long_replies_give_way_and_are_right(opened, words):
    async with opened(pages=6, context_length=1536, max_running=4) as chat:
        replies = await asyncio.gather(*(chat.matches(words(20, i), 600) for i in range(4)))
        assert [reply.finish for reply in replies] == ["length"] * 4


async def test_oversized_jobs_are_refused_at_once(opened, words):
    async with opened(pages=5, context_length=1024) as chat:
        with pytest.raises(ContextLengthExceeded):
            await chat.run(words(1000), 25)
        with pytest.raises(BadRequest):
            await chat.run([], 5)
        with pytest.raises(BadRequest):
            await chat.run([paged_model.VOCABULARY], 5)
        await chat.matches(words(1000), 24)
        assert chat.backend.status().waiting == 0


async def test_more_jobs_than_run_at_once(opened, words):
    async with opened(max_running=2) as chat:
        await asyncio.gather(*(chat.matches(words(40 + 10 * i, i), 20) for i in range(9)))
        assert chat.backend.status().jobs_finished == 9


async def test_a_full_queue_is_said_at_once(opened, words):
    async with opened(max_running=1, max_queue=1) as chat:
        first = await started(chat, words(5), 900)
        second = asyncio.create_task(chat.run(words(6), 5))
        await until(lambda: chat.backend.status().waiting == 1)
        with pytest.raises(TooManyRequests):
            await chat.run(words(7), 5)
        await first.aclose()
        await second


async def test_closing_cancels_within_one_step(opened, words):
    async with opened() as chat:
        other = await started(chat, words(30), 900)
        stream = await started(chat, words(20), 900)
        await until(lambda: chat.model.passes[-1] == (2, 1))
        await stream.aclose()
        closed = len(chat.model.passes)
        assert chat.backend.status().jobs_cancelled == 1
        await until(lambda: chat.backend.status().running == 1)
        # The one that may have been under way.
        assert chat.model.passes[closed:].count((2, 1)) <= 1
        seen = len(chat.model.passes)
        await until(lambda: len(chat.model.passes) > seen + 2)
        assert set(chat.model.passes[seen + 1 :]) == {(1, 1)}
        await other.aclose()
        status = await settled(chat)
        assert (status.jobs_cancelled, status.jobs_finished) == (2, 0)


async def test_what_a_cancelled_job_computed_is_reused(opened, words):
    async with opened() as chat:
        stream = await started(chat, words(600), 900, session="s")
        await stream.aclose()
        await settled(chat)
        again = await chat.matches(words(600), 10, session="s")
        assert again.cached == 599


async def test_cancelled_while_it_waits(opened, words):
    async with opened(max_running=1) as chat:
        first = await started(chat, words(5), 900)
        task = asyncio.create_task(chat.run(words(6), 5))
        await until(lambda: chat.backend.status().waiting == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: chat.backend.status().waiting == 0)
        await first.aclose()
        await chat.matches(words(6), 5)


async def test_cancelled_while_it_waits_for_pages(opened, words):
    async with opened(pages=4, context_length=1024, reserve=1024) as chat:
        first = await started(chat, words(5), 900)
        task = asyncio.create_task(chat.run(words(6), 900))
        await until(lambda: chat.backend.status().waiting == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: chat.backend.status().waiting == 0)
        await first.aclose()
        await chat.matches(words(6), 5)


async def test_several_replies_compute_the_prompt_once(opened, words):
    async with opened(max_running=3) as chat:
        batches = [batch async for batch in chat.backend.generate(chat.job(words(600), 8, n=5))]
        for index in range(5):
            mine = [batch for batch in batches if batch.index == index]
            said = [token for batch in mine for token in batch.token_ids]
            assert said == paged_model.greedy(words(600), 8)
            assert mine[-1].finish_reason == "length"
        assert [batch.cached_tokens for batch in batches if batch.cached_tokens is not None] == [0]
        # Behind the first reply's 599 tokens of prompt nothing is read but single tokens.
        assert sum(count for rows, count in chat.model.passes if count > 1) == 599


async def test_what_another_job_computes_meanwhile_is_told_as_cached(opened, words):
    async with opened(pages=24) as chat:
        before = chat.backend.status()
        told = await asyncio.gather(*(batches_told(chat, words(2600)) for _ in range(2)))
        first, second = sorted(told, key=lambda found: found[-1])
        assert first == [0]
        # Of nine full pages the last ones are found when they have been computed.
        assert second == sorted(set(second))
        assert len(second) > 1
        assert second[-1] >= 2560
        status = chat.backend.status()
        assert status.prompt_tokens_cached - before.prompt_tokens_cached == second[-1]
        assert status.prompt_tokens_computed == 2 * 2600 - second[-1]


async def test_a_prompt_that_is_cancelled_half_way_is_counted_as_far_as_it_was_read(opened, words):
    async with opened(by_hand=True, pages=24) as chat:
        stream = chat.backend.generate(chat.job(words(2600), 5))
        first = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        chat.engine.run_once(wait=False)
        assert (await first).cached_tokens == 0
        await stream.aclose()
        chat.engine.run_once(wait=False)
        status = chat.backend.status()
        assert (status.prompt_tokens_computed, status.prompt_tokens_cached) == (512, 0)


async def test_a_dropped_reply_ends_while_the_others_go_on(opened, words):
    async with opened() as chat:
        job = chat.job(words(10), 300, n=2)
        ends = {}
        counts = {0: 0, 1: 0}
        async for batch in chat.backend.generate(job):
            counts[batch.index] += len(batch.token_ids)
            if batch.index == 1 and batch.token_ids:
                job.dropped.add(1)
            if batch.finish_reason is not None:
                ends[batch.index] = batch.finish_reason
        assert ends == {0: "length", 1: "stop"}
        assert counts[0] == 300
        assert counts[1] < 300


@pytest.mark.parametrize("draft_tokens", [1, 4])
async def test_guesses_of_a_draft_model_change_nothing(opened, words, draft_tokens):
    async with opened(draft_tokens=draft_tokens, pages=24) as chat:
        plain = await asyncio.gather(*(chat.matches(words(40 + i, i), 300, session=f"s{i}") for i in range(3)))
        assert all(len(reply.tokens) == 300 for reply in plain)
        # Fewer passes than tokens, or nothing was guessed.
        assert len([one for one in chat.model.passes if one[1] <= draft_tokens + 1]) < 300
        prompt = words(40, 0) + plain[0].tokens + [3]
        again = await chat.matches(prompt, 20, session="s0")
        # The last token of the reply was computed with it, where it had been guessed.
        assert again.cached in {len(prompt) - 2, len(prompt) - 1}
        penalised = SamplingParams(temperature=0.0, frequency_penalty=1.0)
        alone = await chat.run(words(30), 60, sampling=penalised)
    async with opened() as chat:
        assert (await chat.run(words(30), 60, sampling=penalised)).tokens == alone.tokens
