"""Random jobs in a small memory: every answer is that of the job alone, and the budget is never exceeded."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ark_backends.torch_chat import scheduler

BUDGET = 150

jobs = st.lists(
    st.fixed_dictionaries(
        {
            "root": st.integers(0, 2),
            "shared": st.integers(1, 70),
            "own": st.integers(0, 30),
            "count": st.integers(1, 50),
            "session": st.sampled_from([None, None, "a", "b", "c"]),
            "delay": st.integers(0, 12),
            "cancel": st.sampled_from([None, None, None, 0, 1, 5]),
            "release": st.booleans(),
        }
    ),
    min_size=1,
    max_size=10,
)


@pytest.mark.parametrize("max_running", [1, 4])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=jobs, chunk=st.sampled_from([3, 20, 200]), headroom=st.sampled_from([1, 10, 256]))
def test_random_schedules(monkeypatch, llama, opened, words, schedule, chunk, headroom, max_running):  # noqa: PLR0917 - fixtures
    async def one(chat, job):
        for _ in range(job["delay"]):
            await asyncio.sleep(0.0005)
        prompt = words(70, job["root"])[: job["shared"]] + words(job["own"], 5)
        if job["cancel"] is None:
            await chat.matches(prompt, job["count"], session=job["session"])
        else:
            stream = chat.backend.generate(chat.job(prompt, job["count"], session=job["session"]))
            seen = 0
            async for batch in stream:
                seen += len(batch.token_ids)
                if seen >= job["cancel"]:
                    break
            await stream.aclose()
        if job["release"] and job["session"] is not None:
            chat.backend.release(job["session"])

    async def run():
        monkeypatch.setattr(scheduler, "HEADROOM", headroom)
        limits = {"kv_bytes": llama.kv(BUDGET), "prefill_chunk": chunk, "max_running": max_running}
        async with opened(llama, **limits) as chat:
            watched = watch(chat.engine)
            await asyncio.wait_for(asyncio.gather(*(one(chat, job) for job in schedule)), 240)
            await chat.matches(words(100, 9), 51)
            assert max(watched) <= llama.kv(BUDGET)
            status = chat.backend.status()
            assert status.jobs_failed == 0
            assert status.running == status.waiting == 0
            # What the books say is what the buffers hold.
            cache = chat.engine._cache
            assert status.kv_bytes == sum(cached.kv.nbytes for cached in cache._idle)
            for session in ("a", "b", "c"):
                chat.backend.release(session)
        assert chat.backend.status().kv_bytes == 0
        assert not cache._blocks
        assert not cache._sessions

    asyncio.run(run())


def watch(engine):
    """Bytes of KV at every allocation, measured on the buffers themselves."""
    seen = []
    cache = engine._cache
    new, resize = cache.new, cache.resize

    def held():
        return sum(cached.kv.nbytes for cached in [*cache._idle, *cache._busy])

    def watched_new(*args, **kwargs):
        cached = new(*args, **kwargs)
        seen.append(held())
        return cached

    def watched_resize(cached, capacity):
        # Where it moves, old and new exist together while one is copied into the other.
        seen.append(held() + max(0, cached.kv.resizing(capacity)))
        resize(cached, capacity)

    cache.new, cache.resize = watched_new, watched_resize
    return seen


@pytest.mark.anyio
async def test_growing_sequences_preempt_the_youngest(llama, opened, words, monkeypatch):
    monkeypatch.setattr(scheduler, "HEADROOM", 4)
    async with opened(llama, kv_bytes=llama.kv(200), max_running=4) as chat:
        replies = await asyncio.gather(*(chat.matches(words(20, i), 150) for i in range(4)))
        assert [reply.cached for reply in replies] == [0] * 4
        # Each is admitted once as far as its consumer can see, however often it had to begin again.
        assert [reply.finish for reply in replies] == ["length"] * 4
        status = chat.backend.status()
        assert status.prompt_tokens_computed > 4 * 20
        assert (status.jobs_finished, status.jobs_failed) == (4, 0)


@pytest.mark.anyio
async def test_a_job_that_finds_no_room_is_looked_at_again_only_when_there_may_be_some(llama, opened, words):
    async with opened(llama, kv_bytes=llama.kv(200), max_running=4) as chat:
        cache = chat.engine._cache
        find, looks = cache.find, []

        def counted(*args):
            looks.append(cache.freed)
            return find(*args)

        cache.find = counted
        await asyncio.gather(chat.matches(words(20, 0), 120), chat.matches(words(150, 1), 10))
        assert chat.backend.status().steps > 100
        assert len(looks) == 3
