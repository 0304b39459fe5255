"""Queue, turns, faults, cancellation and the end of an engine."""

import threading
from contextlib import aclosing

import anyio
import pytest
from held_whisper import Held, job
from recordings import file_of, noise

from ark.engines.transcription import TranscriptionInfo
from ark.errors import APIError, TooManyRequests, Unavailable

pytestmark = pytest.mark.anyio


@pytest.fixture
def held(english):
    made = []

    def make(**options):
        made.append(Held(english, **options))
        return made[-1]

    yield make
    for one in made:
        one.gate.set()
        one.engine.close()


async def test_a_job(held):
    it = held()
    results = await it.run(job(2.0))
    assert results[0] == TranscriptionInfo(language="en", duration=2.0)
    status = it.backend.status()
    assert (status.running, status.waiting, status.jobs_finished) == (0, 0, 1)
    assert status.audio_seconds == 2.0
    assert status.segments == len(results) - 1


async def test_segments_come_while_the_rest_is_computed(held):
    it = held()
    async with aclosing(it.backend.transcribe(job(65.0))) as results:
        it.hold()
        assert isinstance(await anext(results), TranscriptionInfo)
        await it.reached()
        # One window is let through; the first segment comes though the next one is held.
        it.entered.clear()
        it.gate.set()
        await it.reached()
        it.hold()
        segment = await anext(results)
        assert segment.id == 0
        assert it.backend.status().running == 1
        it.gate.set()


async def test_leaving_stops_the_decoding_within_a_window(held):
    it = held()
    it.hold()
    results = it.backend.transcribe(job(600.0))
    await anext(results)
    await it.reached()
    await results.aclose()
    status = it.backend.status()
    assert (status.jobs_cancelled, status.waiting) == (1, 0)
    it.gate.set()
    await it.until(lambda status: status.running == 0)
    assert len(it.windows) == 1
    assert it.backend.status().jobs_failed == 0


async def test_leaving_while_it_waits(held):
    it = held(max_running=1)
    it.hold()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(it.run, job())
        await it.reached()
        with anyio.CancelScope() as scope:
            tasks.start_soon(_cancel_when, scope, lambda: it.backend.status().waiting == 1)
            await it.run(job(600.0))
        assert scope.cancelled_caught
        status = it.backend.status()
        assert (status.waiting, status.jobs_cancelled) == (0, 1)
        it.gate.set()
    assert it.backend.status().jobs_finished == 1
    assert len(it.windows) == 1


async def _cancel_when(scope, condition):
    while not condition():  # noqa: ASYNC110 - threads make it true
        await anyio.sleep(0.005)
    scope.cancel()


async def test_the_file_is_read_no_more_once_the_job_has_left(held):
    """Cancelled in the middle of decoding: the caller closes the file, and nothing reads a closed file."""
    it = held()
    file = file_of(noise(30.0))
    reading, go_on = threading.Event(), threading.Event()
    plain, after = file.read, []
    left = False

    def read(size=-1):
        reading.set()
        assert go_on.wait(60)
        after.append(left)
        return plain(size)

    file.read = read
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:

            async def leave():
                await anyio.to_thread.run_sync(reading.wait)
                scope.cancel()
                go_on.set()

            tasks.start_soon(leave)
            await it.run(job(audio=file))
        left = True
    await it.until(lambda status: status.running == 0)
    assert after
    assert not any(after)


async def test_a_long_recording_does_not_keep_others_waiting(held):
    it = held(workers=1)
    it.hold()
    done = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(it.run, job(300.0), done, "long")
        await it.reached()
        for name in ("short 1", "short 2"):
            tasks.start_soon(it.run, job(1.0), done, name)
        await it.until(lambda status: status.running == 3)
        # Both stand in line behind the window that is held.
        while it.engine._windows.cost < 2:  # noqa: ASYNC110
            await anyio.sleep(0.005)
        it.gate.set()
    assert done[:2] == ["short 1", "short 2"] or done[:2] == ["short 2", "short 1"]
    first, second = it.windows[0], it.windows[3]
    assert first == second
    assert len({*it.windows[:3]}) == 3


async def test_many_recordings_of_one_owner_do_not_keep_another_waiting(held):
    it = held(workers=1, max_running=2)
    it.hold()
    done = []
    async with anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(it.run, job(65.0, owner="eve"), done, f"eve {number}")
        await it.reached()
        await it.until(lambda status: status.running == 2)
        for number in range(2):
            tasks.start_soon(it.run, job(1.0, owner="bob"), done, f"bob {number}")
        # It has a thread though the other's recordings have all that one owner may have.
        await it.until(lambda status: status.running == 3)
        while it.engine._windows.cost < 2:  # noqa: ASYNC110
            await anyio.sleep(0.005)
        it.gate.set()
    assert done[:2] == ["bob 0", "bob 1"]


async def test_so_many_windows_at_once_and_no_more(held, monkeypatch):
    from faster_whisper import WhisperModel

    plain, computing, most = WhisperModel.encode, set(), []

    def counted(self, features):
        computing.add(threading.get_ident())
        most.append(len(computing))
        try:
            return plain(self, features)
        finally:
            computing.discard(threading.get_ident())

    monkeypatch.setattr(WhisperModel, "encode", counted)
    it = held(workers=2, max_running=6)
    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(it.run, job(65.0))
    assert len(most) == len(it.windows) == 18
    assert max(most) == 2


async def test_leaving_while_it_waits_for_its_turn(held):
    it = held()
    it.hold()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(it.run, job())
        await it.reached()
        with anyio.CancelScope() as scope:
            tasks.start_soon(_cancel_when, scope, lambda: it.engine._windows.cost == 1)
            await it.run(job())
        assert scope.cancelled_caught
        # Its thread does not wait for the window that is held.
        await it.until(lambda status: status.running == 1)
        it.gate.set()
    status = it.backend.status()
    assert (status.jobs_finished, status.jobs_cancelled) == (1, 1)
    assert len(it.windows) == 1


async def test_a_full_queue(held):
    it = held(max_queue=2, max_running=1)
    it.hold()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(it.run, job())
        tasks.start_soon(it.run, job())
        await it.until(lambda status: status.waiting == 1)
        with pytest.raises(TooManyRequests, match="2 recordings") as caught:
            await it.run(job())
        assert caught.value.code == "queue_full"
        assert int(caught.value.headers["retry-after"]) >= 1
        await it.reached()
        it.gate.set()
    assert len(await it.run(job())) >= 1
    assert it.backend.status().jobs_finished == 3


async def test_a_failure_is_one_jobs_own(held):
    it = held()
    it.error = RuntimeError("secret")
    with pytest.raises(Unavailable) as caught:
        await it.run(job())
    assert caught.value.code == "engine_failed"
    assert "secret" not in caught.value.message
    await it.until(lambda status: status.running == 0)
    assert it.backend.status().alive
    await it.run(job())
    status = it.backend.status()
    assert (status.jobs_failed, status.jobs_finished) == (1, 1)


async def test_what_is_no_audio_fails_alone_and_is_no_failure_of_the_engine(held):
    import io

    it = held()
    with pytest.raises(APIError) as caught:
        await it.run(job(audio=io.BytesIO(b"not audio at all")))
    assert caught.value.status == 415
    await it.until(lambda status: status.running == 0)
    assert not it.windows
    assert it.backend.status().jobs_failed == 1


async def test_an_engine_that_can_do_no_more_is_dead(held):
    it = held()
    it.error, it.always = RuntimeError("device lost"), True
    with pytest.raises(Unavailable):
        await it.run(job())
    await it.until(lambda status: not status.alive)
    with pytest.raises(Unavailable) as caught:
        await it.run(job())
    assert caught.value.code == "engine_failed"


async def test_a_dying_thread_fails_everybody(held):
    it = held(max_running=1)
    it.hold()
    errors = []

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(it.fail, job(), errors)
        await it.reached()
        tasks.start_soon(it.fail, job(), errors)
        await it.until(lambda status: status.waiting == 1)
        it.error = SystemExit()
        it.gate.set()
    assert errors == ["engine_failed"] * 2
    assert not it.backend.status().alive


async def test_closing_fails_what_is_inside(held):
    it = held(max_running=1)
    it.hold()
    errors = []

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(it.fail, job(120.0), errors)
        await it.reached()
        tasks.start_soon(it.fail, job(120.0), errors)
        await it.until(lambda status: status.waiting == 1)
        tasks.start_soon(it.backend.close)
        while len(errors) < 2:  # noqa: ASYNC110
            await anyio.sleep(0.005)
        it.gate.set()
    assert errors == ["engine_closed"] * 2
    assert len(it.windows) == 1
    await it.backend.close()
    with pytest.raises(Unavailable) as caught:
        await it.run(job())
    assert caught.value.code == "engine_closed"
    assert it.engine._model.model.model_is_loaded is False


async def test_closing_ends_what_waits_for_its_turn(held):
    it = held()
    it.hold()
    errors = []

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(it.fail, job(120.0), errors)
        await it.reached()
        tasks.start_soon(it.fail, job(120.0), errors)
        while not it.engine._windows.cost:  # noqa: ASYNC110
            await anyio.sleep(0.005)
        tasks.start_soon(it.backend.close)
        while len(errors) < 2:  # noqa: ASYNC110
            await anyio.sleep(0.005)
        it.gate.set()
    assert errors == ["engine_closed"] * 2
    assert len(it.windows) == 1


async def test_a_recording_that_was_never_begun_can_be_left(held):
    """Its file is not read, so nobody waits for that."""
    it = held(max_running=1)
    it.hold()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(it.run, job())
        await it.reached()
        recording = it.engine.submit(job())
        it.engine.cancel(recording)
        with anyio.fail_after(60):
            await recording.leave()
        it.gate.set()


async def test_many_at_once_are_all_answered(held):
    it = held(workers=2, max_running=4)
    done = []
    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(it.run, job(1.0 + number % 3), done, number)
    assert sorted(done) == list(range(12))
    status = it.backend.status()
    assert (status.jobs_finished, status.running, status.waiting) == (12, 0, 0)
