"""Faults in the engine: what fails with them, and what goes on."""

import asyncio
from contextlib import contextmanager

import pytest
import torch
from engine_jobs import intercepted, settled, until

from ark.engines.chat import SamplingParams
from ark.errors import Unavailable
from ark_backends.kit.engine import MAX_FAILURES

pytestmark = pytest.mark.anyio


@contextmanager
def broken(model, *, fault, when=lambda tokens: True):
    """Forward passes fail while the block runs."""

    def fail(tokens):
        if when(tokens):
            raise fault

    with intercepted(model, before=fail):
        yield


async def test_failed_step_fails_its_jobs_only(llama, opened, words, caplog):
    async with opened(llama, max_running=2) as chat:
        long_ids = words(60)
        doomed = [asyncio.create_task(chat.run(words(20, i), 300, session="s")) for i in range(2)]
        await until(lambda: chat.backend.status().tokens_generated >= 10)
        # Waits for a place, so it is in no step that fails.
        waiting = asyncio.create_task(chat.run(long_ids, 8))
        await until(lambda: chat.backend.status().waiting)
        with broken(llama, fault=RuntimeError("secret internals"), when=lambda tokens: tokens == 2):
            results = await asyncio.gather(*doomed, return_exceptions=True)
        for error in results:
            assert isinstance(error, Unavailable)
            assert error.code == "engine_failed"
            assert error.status == 503
            assert "secret" not in error.message
        assert (await waiting).tokens == llama.greedy(long_ids, 8)
        assert "secret internals" in caplog.text
        fresh = await chat.matches(words(20), 10, session="s")
        assert fresh.cached == 0
        status = chat.backend.status()
        assert status.alive
        assert status.jobs_failed == 2


async def test_out_of_memory_is_survived(llama, opened, words):
    import torch

    async with opened(llama) as chat:
        with broken(llama, fault=torch.OutOfMemoryError("out of memory")), pytest.raises(Unavailable):
            await chat.run(words(20), 5)
        assert chat.backend.status().kv_bytes == 0
        await chat.matches(words(20), 5)


async def test_rows_without_numbers_fail_alone(llama, opened, words):
    async with opened(llama) as chat:
        tasks = [asyncio.create_task(chat.run(words(20, i), 60)) for i in range(2)]
        await until(lambda: chat.backend.status().tokens_generated >= 10)
        fired = asyncio.Event()

        def once(logits):
            if not fired.is_set() and len(logits) == 2:
                fired.set()
                with torch.inference_mode():
                    logits[0] = float("nan")

        with intercepted(llama, after=once):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], Unavailable)
        assert results[1].tokens == llama.greedy(words(20, 1), 60)
        assert chat.backend.status().jobs_failed == 1


async def test_a_dead_thread_refuses_everything(llama, opened, words):
    async with opened(llama, max_running=1) as chat:
        with broken(llama, fault=SystemExit("gone")):
            results = await asyncio.gather(*(chat.run(words(20, i), 50) for i in range(3)), return_exceptions=True)
        assert all(isinstance(error, Unavailable) for error in results)
        # One that is raised twice would keep the frames, and so the requests, of all who raised it.
        assert len({id(error) for error in results}) == 3
        status = chat.backend.status()
        assert not status.alive
        assert (status.running, status.waiting, status.kv_bytes) == (0, 0, 0)
        with pytest.raises(Unavailable):
            await chat.run(words(3), 1)


async def test_failures_in_a_row_end_the_engine(llama, opened, words):
    async with opened(llama) as chat:
        with broken(llama, fault=RuntimeError("device lost")):
            for _ in range(MAX_FAILURES):
                assert chat.backend.status().alive
                with pytest.raises(Unavailable):
                    await chat.run(words(20), 5)
            with pytest.raises(Unavailable):
                await chat.run(words(20), 5)
        assert not chat.backend.status().alive


async def test_close_fails_what_runs(llama, opened, words):
    async with opened(llama) as chat:
        task = asyncio.create_task(chat.run(words(20), 480))
        await until(lambda: chat.backend.status().tokens_generated)
        await chat.backend.close()
        with pytest.raises(Unavailable):
            await task
        await chat.backend.close()
        status = chat.backend.status()
        assert not status.alive
        assert status.kv_bytes == 0
        with pytest.raises(Unavailable):
            await chat.run(words(3), 1)


async def test_a_closed_event_loop_cancels_its_jobs(llama, opened, words):
    async with opened(llama) as chat:

        async def leave():
            results = chat.engine.submit(chat.job(words(20), 480))
            await until(lambda: chat.backend.status().tokens_generated)
            return results

        await asyncio.to_thread(asyncio.run, leave())
        status = await settled(chat)
        assert status.jobs_cancelled == 1
        assert status.tokens_generated < 480


async def test_a_job_that_cannot_be_prepared_fails_alone(llama, opened, words):
    async with opened(llama) as chat:
        for _ in range(MAX_FAILURES + 1):
            with pytest.raises(Unavailable):
                await chat.run(words(5, 2), 4, sampling=SamplingParams(logit_bias={1: "no number"}))
        reply = await chat.run(words(5, 1), 8)
        status = await settled(chat)
    assert reply.tokens == llama.greedy(words(5, 1), 8)
    assert status.alive
    assert status.jobs_failed == MAX_FAILURES + 1
