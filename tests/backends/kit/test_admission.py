"""Places, and how jobs leave them."""

import pytest

from ark.errors import Unavailable
from ark_backends.kit.admission import AdmissionQueue, engine_closed, engine_failed

pytestmark = pytest.mark.anyio


class Job:
    """Stands for the queue of a job's results."""


def test_every_limit_has_to_have_room():
    admission = AdmissionQueue(requests=3, inputs=10)
    first = Job()
    # However much it takes, a job that is alone may come.
    assert admission.enter(first, requests=1, inputs=50)
    assert not admission.enter(Job(), requests=1, inputs=1)
    assert admission.leave(first, "finished")
    assert admission.enter(Job(), requests=1, inputs=5)
    assert not admission.enter(Job(), requests=1, inputs=6)
    assert admission.enter(Job(), requests=1, inputs=5)
    assert admission.enter(Job(), requests=1, inputs=0)
    assert not admission.enter(Job(), requests=1, inputs=0)
    assert (len(admission), admission.taken("requests"), admission.taken("inputs")) == (3, 3, 10)


def test_nobody_fills_the_queue_for_everybody_else():
    admission = AdmissionQueue(requests=6)
    jobs = [Job() for _ in range(6)]
    for job in jobs:
        assert admission.enter(job, "many", requests=1)
    assert not admission.enter(Job(), "many", requests=1)
    assert [admission.enter(Job(), "one", requests=1) for _ in range(4)] == [True, True, True, False]
    assert [admission.enter(Job(), "two", requests=1) for _ in range(3)] == [True, True, False]
    for job in jobs[:5]:
        admission.leave(job, "finished")
    # Where there is room, there are no shares.
    assert not admission.enter(Job(), "many", requests=2)
    assert admission.enter(Job(), "one", requests=0)
    admission.clear()
    assert not admission._owners


def test_a_job_inside_may_take_more():
    admission = AdmissionQueue(requests=9, vectors=10)
    first, second, gone = Job(), Job(), Job()
    for job in (first, second):
        admission.enter(job, requests=1)
    assert admission.extend(first, vectors=12)
    assert not admission.extend(second, vectors=1)
    admission.leave(first, None)
    assert admission.extend(gone, vectors=9)
    assert admission.taken("vectors") == 0
    assert admission.extend(second, vectors=10)
    assert admission.taken("vectors") == 10


def test_a_job_leaves_once():
    admission = AdmissionQueue(requests=9)
    jobs = [Job() for _ in range(4)]
    for job in jobs:
        admission.enter(job, requests=1)
    for job, outcome in zip(jobs, ("finished", "cancelled", "failed", None), strict=True):
        assert admission.leave(job, outcome)
        assert not admission.leave(job, "finished")
    assert admission.outcomes == {"jobs_finished": 1, "jobs_cancelled": 1, "jobs_failed": 1}


def test_the_first_reason_stays_and_each_gets_an_error_of_its_own():
    admission = AdmissionQueue(requests=9)
    jobs = [Job(), Job()]
    for job in jobs:
        admission.enter(job, requests=1)
    assert admission.open
    admission.close(engine_closed)
    admission.close(engine_failed)
    assert not admission.open
    refusals = []
    for _ in range(2):
        with pytest.raises(Unavailable) as refused:
            admission.enter(Job(), requests=1)
        refusals.append(refused.value)
    left = admission.clear()
    assert [job for job, _ in left] == jobs
    errors = [error for _, error in left] + refusals
    assert {error.code for error in errors} == {"engine_closed"}
    # One that is raised twice would keep the frames, and so the requests, of all who raised it.
    assert len({id(error) for error in errors}) == 4
    assert (len(admission), admission.outcomes["jobs_failed"]) == (0, 2)


def test_an_engine_that_ends_by_itself_has_failed():
    admission = AdmissionQueue(requests=9)
    admission.enter(Job(), requests=1)
    ((_, error),) = admission.clear()
    assert error.code == "engine_failed"
    with pytest.raises(Unavailable, match="has failed"):
        admission.enter(Job(), requests=1)
