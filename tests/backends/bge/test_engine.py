"""Queue, faults, cancellation and the end of an engine."""

import threading

import anyio
import anyio.lowlevel
import pytest
from embedding_jobs import job, vectors

from ark.errors import APIError, TooManyRequests, Unavailable

pytestmark = pytest.mark.anyio

POISON = 63
BAD_NUMBERS = 62


@pytest.fixture(scope="session")
def parts(m3):
    """The small model, loaded once."""
    from embedding_jobs import configured

    from ark_backends.bge.opening import open_model
    from ark_backends.bge.options import BgeOptions

    config = configured(m3)
    engine, reader, dimensions, _ = open_model(config, config.engine_options(BgeOptions))
    return engine._encoder.model, reader, dimensions


class Held:
    """A backend whose engine can be held and made to fail; it computes truly otherwise."""

    def __init__(self, parts, *, max_queue=256, colbert_tokens=0, **options):
        from ark_backends.bge import Bge
        from ark_backends.bge.encoder import Encoder
        from ark_backends.bge.engine import BgeEngine
        from ark_backends.bge.options import BgeOptions

        model, reader, dimensions = parts
        model.set_attn_implementation("sdpa")
        held = self

        class Faulty(Encoder):
            def encode(self, items):
                held.batches.append([list(item.row) for item in items])
                held.entered.set()
                held.gate.wait(60)
                if held.dying:
                    raise SystemExit
                if held.always_failing or any(POISON in item.row for item in items):
                    raise RuntimeError("out of memory")
                return super().encode(items)

            def _read_out(self, items, hidden, found):
                for number, item in enumerate(items):
                    if BAD_NUMBERS in item.row:
                        start = sum(len(other.row) for other in items[:number])
                        hidden[start : start + len(item.row)] = float("inf")
                return super()._read_out(items, hidden, found)

        self.batches = []
        self.entered, self.gate = threading.Event(), threading.Event()
        self.gate.set()
        self.always_failing = self.dying = False
        self.engine = BgeEngine(
            Faulty(model, pooling="cls", normalize=True),
            BgeOptions(threads=1, **options),
            max_queue=max_queue,
            colbert_tokens=colbert_tokens,
        )
        self.backend = Bge(self.engine, reader, dimensions)
        self.engine.start()

    async def hold(self, tasks):
        """Occupy the engine with a first job."""
        self.gate.clear()
        self.entered.clear()
        tasks.start_soon(self.backend.embed, job([5]))
        await anyio.to_thread.run_sync(self.entered.wait)

    async def waiting(self, count, messages=0):
        """While the engine is held: until so many jobs wait, and have reached it."""
        while self.backend.status().waiting < count or self.engine._inbox.qsize() < max(count, messages):  # noqa: ASYNC110
            await anyio.sleep(0.01)


@pytest.fixture
async def held(parts):
    made = []

    def make(**limits):
        made.append(Held(parts, **limits))
        return made[-1]

    yield make
    for one in made:
        one.gate.set()
        await one.backend.close()


async def test_what_waits_is_computed_together_and_comes_back_in_order(held):
    one = held()
    results = {}

    async def embed(name, *rows):
        results[name] = await one.backend.embed(job(*rows))

    async with anyio.create_task_group() as tasks:
        await one.hold(tasks)
        for number in range(6):
            tasks.start_soon(embed, number, *([6 + number] * length for length in (9, 2, 20)))
        await one.waiting(6)
        assert one.backend.status().running == 1
        one.gate.set()
    assert [len(batch) for batch in one.batches] == [1, 18]
    assert [len(row) for row in one.batches[1]] == sorted(len(row) for row in one.batches[1])
    for number, got in results.items():
        assert [embedding.tokens for embedding in got] == [11, 4, 22]
        again = await one.backend.embed(job(*([6 + number] * length for length in (9, 2, 20))))
        assert abs(vectors(got) - vectors(again)).max() < 1e-5
    status = one.backend.status()
    assert (status.jobs_finished, status.inputs, status.running, status.waiting) == (13, 37, 0, 0)


async def test_a_lone_job_is_not_kept_waiting_for_others(held):
    one = held()
    await one.backend.embed(job("w1"))
    await one.backend.embed(job("w1"))
    assert [len(batch) for batch in one.batches] == [1, 1]


async def test_a_full_queue(held):
    one = held(max_queue=3)
    async with anyio.create_task_group() as tasks:
        await one.hold(tasks)
        for _ in range(2):
            tasks.start_soon(one.backend.embed, job("w1"))
        await one.waiting(2)
        with pytest.raises(TooManyRequests, match="3 requests with 3 inputs") as error:
            await one.backend.embed(job("w1"))
        assert int(error.value.headers["retry-after"]) >= 1
        assert error.value.code == "queue_full"
        one.gate.set()
    await one.backend.embed(job("w1"))


async def test_a_queue_full_of_inputs(held):
    one = held(max_waiting_inputs=10)
    # However large, a job may come when nobody is there.
    assert len(await one.backend.embed(job(*["w1"] * 30))) == 30
    async with anyio.create_task_group() as tasks:
        await one.hold(tasks)
        with pytest.raises(TooManyRequests):
            await one.backend.embed(job(*["w1"] * 10))
        tasks.start_soon(one.backend.embed, job(*["w1"] * 9))
        await one.waiting(1)
        one.gate.set()


async def test_retry_after_is_what_the_queue_takes(held):
    one = held(max_queue=2)
    one.engine._speed = 10.0
    async with anyio.create_task_group() as tasks:
        await one.hold(tasks)
        tasks.start_soon(one.backend.embed, job([5] * 48))
        await one.waiting(1)
        with pytest.raises(TooManyRequests) as error:
            await one.backend.embed(job("w1"))
        assert error.value.headers["retry-after"] == "5"
        one.gate.set()


async def test_retry_after_of_a_queue_that_is_being_tokenised(held):
    one = held(max_queue=2)
    one.engine._speed = 1e6
    async with anyio.create_task_group() as tasks:
        await one.hold(tasks)
        results = one.engine.enter(1)
        with pytest.raises(TooManyRequests) as error:
            await one.backend.embed(job("w1"))
        assert error.value.headers["retry-after-ms"] == "1000"
        one.engine.cancel(results)
        one.gate.set()


async def test_a_cancelled_job_leaves_the_queue(held):
    one = held()
    async with anyio.create_task_group() as tasks:
        await one.hold(tasks)
        async with anyio.create_task_group() as cancelled:
            cancelled.start_soon(one.backend.embed, job([40], [41]))
            await one.waiting(1)
            cancelled.cancel_scope.cancel()
        assert one.backend.status().waiting == 0
        tasks.start_soon(one.backend.embed, job([50]))
        await one.waiting(1, messages=3)
        one.gate.set()
    assert one.batches == [[[0, 5, 2]], [[0, 50, 2]]]
    assert one.backend.status().jobs_cancelled == 1


async def test_a_failed_batch_fails_only_the_half_of_what_failed(held, caplog):
    one = held()
    results = {}

    async def embed(name, *rows):
        try:
            results[name] = len(await one.backend.embed(job(*rows)))
        except Unavailable as error:
            results[name] = error.code

    async with anyio.create_task_group() as tasks:
        await one.hold(tasks)
        tasks.start_soon(embed, "short", [5], [6])
        tasks.start_soon(embed, "poison", [POISON] * 20)
        await one.waiting(2)
        one.gate.set()
    assert results == {"short": 2, "poison": "engine_failed"}
    # The whole, then its halves.
    assert [len(batch) for batch in one.batches] == [1, 3, 2, 1]
    assert one.backend.status().alive
    assert "out of memory" in caplog.text
    assert await one.backend.embed(job("w1"))
    assert one.backend.status().jobs_failed == 1


async def test_a_batch_that_fails_once_is_only_computed_again(held):
    one = held()
    one.always_failing = True

    async def mend():
        while len(one.batches) < 1:
            await anyio.lowlevel.checkpoint()
        one.always_failing = False
        one.gate.set()

    one.gate.clear()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one.backend.embed, job("w1", "w2"))
        tasks.start_soon(mend)
    assert one.backend.status().jobs_failed == 0


async def test_numbers_that_are_none_fail_their_job_only(held):
    one = held()
    async with anyio.create_task_group() as tasks:
        await one.hold(tasks)
        tasks.start_soon(one.backend.embed, job([5], [6]))
        await one.waiting(1)
        one.gate.set()
    with pytest.raises(APIError, match="not finite") as error:
        await one.backend.embed(job([5], [BAD_NUMBERS]))
    assert (error.value.status, error.value.param) == (500, "input[1]")
    # The same would come out again.
    assert error.value.headers["x-should-retry"] == "false"
    assert await one.backend.embed(job([5]))


async def test_what_a_client_sends_does_not_end_the_engine(held):
    one = held()
    for _ in range(8):
        with pytest.raises(Unavailable):
            await one.backend.embed(job([POISON]))
    assert await one.backend.embed(job([5]))
    assert one.backend.status().alive


async def test_colbert_vectors_of_all_requests_are_bounded(held):
    one = held(colbert_tokens=10)
    async with anyio.create_task_group() as tasks:
        await one.hold(tasks)
        async with anyio.create_task_group() as cancelled:
            cancelled.start_soon(lambda: one.backend.embed(job([5] * 6, colbert=True)))
            await one.waiting(1)
            with pytest.raises(TooManyRequests, match="of 8 tokens") as error:
                await one.backend.embed(job([5], colbert=True))
            assert error.value.code == "queue_full"
            cancelled.cancel_scope.cancel()
        async with anyio.create_task_group() as cancelled:
            cancelled.start_soon(lambda: one.backend.embed(job([5], colbert=True)))
            await one.waiting(1)
            assert one.engine._admission.taken("colbert_tokens") == 3
            cancelled.cancel_scope.cancel()
        one.gate.set()
    assert one.engine._admission.taken("colbert_tokens") == 0


async def test_an_engine_that_always_fails_gives_up(held):
    one = held()
    one.always_failing = True
    for _ in range(5):
        assert one.backend.status().alive
        with pytest.raises(Unavailable):
            await one.backend.embed(job("w1"))
    await anyio.to_thread.run_sync(one.engine._thread.join)
    assert not one.backend.status().alive
    refusals = []
    for _ in range(2):
        with pytest.raises(Unavailable, match="engine has failed") as refused:
            await one.backend.embed(job("w1"))
        refusals.append(refused.value)
    # One that is raised twice would keep the frames, and so the requests, of all who raised it.
    assert refusals[0] is not refusals[1]


async def test_a_thread_that_dies_fails_what_waits(held, caplog):
    one = held()
    codes = []

    async def embed():
        try:
            await one.backend.embed(job("w1"))
        except Unavailable as error:
            codes.append(error.code)

    async with anyio.create_task_group() as tasks:
        one.gate.clear()
        tasks.start_soon(embed)
        await anyio.to_thread.run_sync(one.entered.wait)
        tasks.start_soon(embed)
        await one.waiting(1)
        one.dying = True
        one.gate.set()
    assert codes == ["engine_failed"] * 2
    assert "thread died" in caplog.text
    assert not one.backend.status().alive
    with pytest.raises(Unavailable, match="engine has failed"):
        await one.backend.embed(job("w1"))


async def test_a_small_job_is_done_before_a_huge_one_that_came_first(held):
    one = held(batch_tokens=256)
    finished = []

    async def embed(name, *rows):
        await one.backend.embed(job(*rows))
        finished.append(name)

    async with anyio.create_task_group() as tasks:
        await one.hold(tasks)
        tasks.start_soon(embed, "huge", *[[5] * 60] * 40)
        await one.waiting(1)
        tasks.start_soon(embed, "small", [6])
        await one.waiting(2)
        one.gate.set()
    assert finished == ["small", "huge"]
    # In the first batch after it came, not merely before the last one.
    assert [0, 6, 2] in one.batches[1]


async def test_close_fails_what_waits(held):
    one = held()
    codes = []

    async def embed():
        try:
            await one.backend.embed(job("w1"))
        except Unavailable as error:
            codes.append(error.code)

    async with anyio.create_task_group() as tasks:
        await one.hold(tasks)
        tasks.start_soon(embed)
        await one.waiting(1)
        tasks.start_soon(one.backend.close)
        while one.backend.status().alive:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        one.gate.set()
    assert codes == ["engine_closed"]
    assert not one.backend.status().alive
    await one.backend.close()
    with pytest.raises(Unavailable):
        await one.backend.embed(job("w1"))


async def test_batches_follow_the_speed(held):
    one = held(batch_seconds=0.5, batch_tokens=4000)
    for speed, tokens in ((0.0, 256), (100.0, 256), (2000.0, 1000), (1e9, 4000)):
        one.engine._speed = speed
        assert one.engine._budget() == tokens
