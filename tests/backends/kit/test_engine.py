"""The engine's thread, on every event loop: jobs that count, and what becomes of those who wait."""

import threading
from functools import partial
from importlib.util import find_spec

import anyio
import anyio.to_thread
import pytest

from ark.errors import TooManyRequests, Unavailable
from ark_backends.kit.engine import MAX_FAILURES, Engine
from ark_backends.kit.results import ResultQueue

pytestmark = pytest.mark.anyio


LOOPS = {"asyncio": ("asyncio", {"use_uvloop": False}), "trio": ("trio", {})}
if find_spec("uvloop"):
    LOOPS["uvloop"] = ("asyncio", {"use_uvloop": True})


@pytest.fixture(params=LOOPS)
def anyio_backend(request):
    return LOOPS[request.param]


class Counting(Engine[int, int]):
    """A job of N counts from 0 to N - 1, a number in each step. The test lets steps go."""

    def __init__(self, *, places=9):
        super().__init__("counting", jobs=places)
        self.jobs = {}
        self.fault = None
        self.freed = False
        self.begun = []
        self.gate, self.held = threading.Semaphore(0), threading.Event()
        self.open = False

    def submit(self, count):
        results = ResultQueue()
        if not self._admission.enter(results, jobs=1):
            raise TooManyRequests("full")
        self._submit(results, count)
        return results

    @property
    def outcomes(self):
        return tuple(self._admission.outcomes.values())

    @property
    def alive(self):
        return self._admission.open

    @property
    def _busy(self):
        return bool(self.jobs)

    def _begin(self, results, job):
        self.begun.append(job)
        self.jobs[results] = (0, job)

    def _abandon(self, results):
        self.jobs.pop(results, None)

    def _step(self):
        if not self.jobs:
            return
        if not self.open:
            self.held.set()
            self.gate.acquire()
        try:
            if self.fault is not None:
                raise self.fault
        except RuntimeError as error:
            for results in list(self.jobs):
                self._fail(results, Unavailable(str(error)))
                self._abandon(results)
            self._count_step(failed=True)
            return
        self._count_step(failed=False)
        for results, (number, count) in list(self.jobs.items()):
            self._results.add(results, number)
            self.jobs[results] = (number + 1, count)
            if number + 1 == count:
                self._admission.leave(results, "finished")
                self._abandon(results)

    def _clear(self):
        self.jobs.clear()

    def _free(self):
        self.freed = True


@pytest.fixture
async def engine():
    made = Counting()
    made.start()
    yield made
    made.open = True
    made.gate.release()
    await anyio.to_thread.run_sync(made.close)


async def held(engine):
    """Until the engine is in a step that is held."""
    await anyio.to_thread.run_sync(engine.held.wait)


async def read(results, count):
    with anyio.fail_after(60):
        return [await results.get() for _ in range(count)]


async def until(condition):
    with anyio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - the engine's thread makes it true
            await anyio.sleep(0.001)


async def test_jobs_side_by_side(engine):
    engine.open = True
    results = [engine.submit(count) for count in (3, 1, 5)]
    got = [await read(one, count) for one, count in zip(results, (3, 1, 5), strict=True)]
    assert got == [[0, 1, 2], [0], [0, 1, 2, 3, 4]]
    assert engine.outcomes == (3, 0, 0)


async def test_jobs_of_several_loops(engine):
    engine.open = True

    async def count():
        return await read(engine.submit(200), 200)

    found = []
    elsewhere = threading.Thread(target=lambda: found.append(anyio.run(count, backend="trio")))
    elsewhere.start()
    assert await count() == list(range(200))
    await anyio.to_thread.run_sync(elsewhere.join)
    assert found == [list(range(200))]


async def test_no_more_than_there_are_places(engine):
    engine._admission = type(engine._admission)(jobs=2)
    first, second = engine.submit(1), engine.submit(1)
    with pytest.raises(TooManyRequests):
        engine.submit(1)
    engine.cancel(second)
    third = engine.submit(1)
    engine.open = True
    engine.gate.release()
    assert await read(first, 1) == await read(third, 1) == [0]
    assert engine.outcomes == (2, 1, 0)


async def test_a_cancelled_job_is_in_no_step_that_begins_later(engine):
    first, second = engine.submit(3), engine.submit(3)
    await held(engine)
    engine.cancel(second)
    engine.cancel(second)
    engine.gate.release()
    await read(first, 1)
    assert engine.outcomes == (0, 1, 0)
    await until(lambda: second not in engine.jobs)
    engine.open = True
    engine.gate.release()
    await read(first, 2)
    assert engine.outcomes == (1, 1, 0)
    # Over already: nothing happens.
    engine.cancel(first)
    assert engine.outcomes == (1, 1, 0)


async def test_a_failure_is_counted_once_and_others_go_on(engine):
    engine.fault = RuntimeError("out of memory")
    results = engine.submit(3)
    await held(engine)
    engine.gate.release()
    with pytest.raises(Unavailable, match="out of memory"):
        await results.get()
    engine.cancel(results)
    engine.fault, engine.open = None, True
    assert await read(engine.submit(2), 2) == [0, 1]
    assert engine.outcomes == (1, 0, 1)


async def test_failures_in_a_row_end_the_engine(engine):
    engine.fault, engine.open = RuntimeError("device lost"), True
    for _ in range(MAX_FAILURES):
        assert engine.alive
        with pytest.raises(Unavailable):
            await engine.submit(1).get()
    await until(lambda: engine.freed)
    with pytest.raises(Unavailable, match="has failed"):
        engine.submit(1)


async def test_a_thread_that_dies_leaves_nobody_waiting(engine):
    """Whatever has come: running, waiting in the inbox, and entered without having been submitted."""
    running = engine.submit(3)
    await held(engine)
    waiting, entered = engine.submit(3), ResultQueue()
    engine._admission.enter(entered, jobs=1)
    engine.fault = SystemExit()
    engine.gate.release()
    for results in (running, waiting, entered):
        with pytest.raises(Unavailable) as caught:
            await read(results, 1)
        assert caught.value.code == "engine_failed"
    await until(lambda: engine.freed)
    engine._submit(entered, 3)
    assert (engine.begun, engine.outcomes, engine.alive) == ([3], (0, 0, 3), False)


async def test_closing_fails_what_is_inside_and_waits_for_the_thread(engine):
    running = engine.submit(3)
    await held(engine)
    waiting = engine.submit(3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, engine.close)
        await until(lambda: not engine.alive)
        with pytest.raises(Unavailable) as caught:
            engine.submit(1)
        assert caught.value.code == "engine_closed"
        assert not engine.freed
        engine.gate.release()
    assert engine.freed
    assert await read(running, 1) == [0]
    for results in (running, waiting):
        with pytest.raises(Unavailable) as caught:
            await read(results, 1)
        assert caught.value.code == "engine_closed"
    await anyio.to_thread.run_sync(engine.close)


async def test_a_closed_loop_cancels_its_jobs(engine):
    async def leave():
        engine.submit(3)
        await held(engine)

    await anyio.to_thread.run_sync(partial(anyio.run, leave))
    engine.open = True
    engine.gate.release()
    await until(lambda: engine.outcomes == (0, 1, 0))
    await until(lambda: not engine.jobs)
    assert await read(engine.submit(2), 2) == [0, 1]


async def test_an_engine_that_was_never_started_can_be_closed():
    engine = Counting()
    engine.close()
    engine.close()
    with pytest.raises(Unavailable):
        engine.submit(1)
