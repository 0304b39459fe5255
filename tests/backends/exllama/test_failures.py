"""Faults in the real dynamic generator: what fails with them, and what goes on."""

import asyncio

import paged_model
import pytest
from engine_jobs import settled, started, until

from ark.errors import Unavailable

pytestmark = pytest.mark.anyio


async def rest(stream):
    """Read a job to its end."""
    async for _ in stream:
        pass


async def test_failed_step_fails_its_jobs_only(opened, words, caplog):
    async with opened(max_running=2) as chat:
        doomed = [asyncio.create_task(chat.run(words(300, i), 900, session="s")) for i in range(2)]
        await until(lambda: chat.backend.status().tokens_generated >= 10)
        # Waits for a place, so it is in no step that fails.
        waiting = asyncio.create_task(chat.run(words(60), 8))
        await until(lambda: chat.backend.status().waiting)

        def fail(ids):
            if ids.shape == (2, 1):
                raise RuntimeError("secret internals")

        chat.model.before = fail
        results = await asyncio.gather(*doomed, return_exceptions=True)
        for error in results:
            assert isinstance(error, Unavailable)
            assert error.code == "engine_failed"
            assert "secret" not in error.message
        assert (await waiting).tokens == paged_model.greedy(words(60), 8)
        assert "secret internals" in caplog.text
        # The full pages were right before the step; what it was writing to is not looked at again.
        fresh = await chat.matches(words(300), 10, session="s")
        assert fresh.cached == 256
        status = chat.backend.status()
        assert (status.alive, status.jobs_failed) == (True, 2)


async def test_failed_prefill_frees_its_pages(opened, words):
    async with opened(pages=4, context_length=1024) as chat:
        chat.model.fault = MemoryError("out of memory")
        with pytest.raises(Unavailable):
            await chat.run(words(900), 50)
        chat.model.fault = None
        assert (await settled(chat)).kv_bytes == 0
        await chat.matches(words(900), 50)


async def test_a_fault_behind_the_last_token_fails_its_job(opened, words, package):
    """Of a step that fails no results are known, not even that a reply has ended in it."""
    async with opened() as chat:
        name = "defrag_cache" if package == "exllamav2" else "on_queue_drained"
        plain = getattr(chat.generator._generator, name)

        def failing():
            raise RuntimeError("a fault of the test's")

        setattr(chat.generator._generator, name, failing)
        with pytest.raises(Unavailable):
            await chat.run(words(20), 5)
        setattr(chat.generator._generator, name, plain)
        await chat.matches(words(20), 5)
        assert (await settled(chat)).jobs_failed == 1


async def test_a_fault_while_a_job_is_taken_out_is_no_end_of_the_engine(opened, words, package):
    """The generators put their pages in order when the last job goes."""
    async with opened() as chat:
        name = "defrag_cache" if package == "exllamav2" else "on_queue_drained"
        plain = getattr(chat.generator._generator, name)
        failed = []

        def failing():
            failed.append(True)
            raise RuntimeError("a fault of the test's")

        setattr(chat.generator._generator, name, failing)
        stream = await started(chat, words(20), 900)
        await stream.aclose()
        await until(lambda: failed)
        setattr(chat.generator._generator, name, plain)
        await chat.matches(words(20), 5)
        status = await settled(chat)
        assert (status.alive, status.jobs_cancelled, status.jobs_failed) == (True, 1, 0)


async def test_pages_that_cannot_be_given_back_fail_what_runs_and_no_more(opened, words, monkeypatch):
    async with opened(max_running=2) as chat:
        stream = await started(chat, words(300, 1), 900)
        beside = asyncio.create_task(chat.run(words(300, 2), 900))
        await until(lambda: chat.backend.status().running == 2)
        waiting = asyncio.create_task(chat.matches(words(60), 8))
        await until(lambda: chat.backend.status().waiting)
        left = chat.generator.pages.left

        def failing(*arguments, **more):
            monkeypatch.setattr(chat.generator.pages, "left", left)
            raise RuntimeError("a fault of the test's")

        monkeypatch.setattr(chat.generator.pages, "left", failing)
        await stream.aclose()
        with pytest.raises(Unavailable):
            await beside
        await waiting
        assert (await settled(chat)).alive
        assert not chat.generator.pages._table.referenced_pages
        await chat.matches(words(300, 1), 5)


async def test_failures_in_a_row_end_the_engine(opened, words):
    from ark_backends.kit.engine import MAX_FAILURES

    async with opened() as chat:
        chat.model.fault = RuntimeError("device lost")
        for _ in range(MAX_FAILURES):
            assert chat.backend.status().alive
            with pytest.raises(Unavailable):
                await chat.run(words(20), 5)
        await until(lambda: not chat.backend.status().alive)
        with pytest.raises(Unavailable):
            await chat.run(words(20), 5)
        await until(lambda: chat.model.unloaded)


async def test_logits_that_are_no_numbers_fail_their_reply_alone(opened, words, monkeypatch):
    async with opened() as chat:
        bad = asyncio.create_task(chat.run(words(20, 1), 900))
        good = asyncio.create_task(chat.run(words(20, 2), 60))
        await until(lambda: chat.backend.status().tokens_generated >= 10)
        plain = chat.model._pass

        def broken(*arguments):
            out = plain(*arguments)
            out[0] = float("nan")
            return out

        monkeypatch.setattr(chat.model, "_pass", broken)
        with pytest.raises(Unavailable):
            await bad
        monkeypatch.undo()
        # Its row may have been the first one in a step behind the fault; else it went on undisturbed.
        result = (await asyncio.gather(good, return_exceptions=True))[0]
        assert isinstance(result, Unavailable) or result.tokens == paged_model.greedy(words(20, 2), 60)
        await chat.matches(words(20, 2), 60)
        assert chat.backend.status().alive


async def test_close_fails_what_runs_and_frees_the_model(opened, words):
    async with opened() as chat:
        stream = await started(chat, words(20), 900)
        await chat.backend.close()
        await chat.backend.close()
        with pytest.raises(Unavailable) as caught:
            await rest(stream)
        assert caught.value.code == "engine_closed"
        assert chat.model.unloaded
        status = chat.backend.status()
        assert (status.alive, status.running, status.kv_bytes) == (False, 0, 0)
