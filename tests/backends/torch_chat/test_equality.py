"""Greedy tokens are those of plain transformers, whatever the batch, the chunks and the cache."""

import asyncio
import random

import pytest

ARCHITECTURES = ["Llama", "Qwen2", "Qwen3", "Mistral", "Gemma2", "Gemma3Text", "GptOss"]

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("architecture", ARCHITECTURES)]


async def test_one_job_longer_than_the_window(architecture, tiny, opened, words):
    async with opened(tiny(architecture), prefill_chunk=512) as chat:
        await chat.matches(words(5), 40)
        await chat.matches(words(50), 20)


async def test_mixed_batch_with_chunked_prefill(architecture, tiny, opened, words):
    async with opened(tiny(architecture), prefill_chunk=11) as chat:
        jobs = [(1, 30), (7, 12), (40, 25), (90, 9), (33, 1)]
        await asyncio.gather(*(chat.matches(words(length), count) for length, count in jobs))
        assert max(sum(lengths) for lengths in chat.runner.passes) <= 11 + len(jobs)


async def test_turns_continue_cached_kv(architecture, tiny, opened, words):
    async with opened(tiny(architecture)) as chat:
        transcript, known = words(20), 0
        for turn in range(3):
            reply = await chat.matches(transcript, 10, session="s")
            assert reply.cached == known
            known = len(transcript) + 9  # the last sampled token has no KV
            transcript = transcript + reply.tokens + words(6, turn)


async def test_rollback_and_divergence(architecture, tiny, opened, words):
    async with opened(tiny(architecture)) as chat:
        prompt = words(50)
        await chat.matches(prompt, 12, session="s")
        again = await chat.matches(prompt, 12, session="s")
        assert again.cached == 49
        edited = await chat.matches(prompt[:41] + words(9, 1), 12, session="s")
        assert edited.cached == 41
        early = await chat.matches(prompt[:6] + words(30, 2), 12, session="s")
        assert early.cached == 6


async def test_fork_leaves_its_source_alone(architecture, tiny, opened, words):
    async with opened(tiny(architecture)) as chat:
        prompt = words(40)
        first = await chat.matches(prompt, 10, session="a")
        forks = await asyncio.gather(*(chat.matches(prompt[:30] + words(10, i), 15, session=f"b{i}") for i in range(3)))
        assert [fork.cached for fork in forks] == [30, 30, 30]
        back = await chat.matches(prompt + first.tokens + words(3), 10, session="a")
        assert back.cached == 49


async def test_random_traffic(architecture, tiny, opened, words):
    draw = random.Random(architecture)
    async with opened(tiny(architecture), prefill_chunk=16, max_running=4) as chat:
        roots = [words(30, i) for i in range(3)]

        async def client(name):
            transcript = list(draw.choice(roots))
            for _ in range(3):
                reply = await chat.matches(transcript, draw.randrange(1, 14), session=name)
                transcript = transcript + reply.tokens + words(draw.randrange(1, 20), draw.randrange(99))
                transcript = transcript[: draw.randrange(10, 90)]

        await asyncio.gather(*(client(f"s{i}") for i in range(5)))
