"""Whose rows are computed next."""

import pytest


@pytest.fixture
def add():
    from ark.engines.embedding import EmbeddingJob
    from ark_backends.bge.turns import Turns, Work

    turns = Turns()

    def work(*lengths):
        ticket = None
        made = Work(EmbeddingJob(request_id="test", inputs=["x"]), ticket, [[7] * length for length in lengths])
        turns.add(made)
        return made

    work.turns = turns
    return work


def lengths(batch, work=None):
    return [len(part.row) for part in batch if work in (None, part.work)]


def test_all_that_waits_goes_sorted_into_one_batch(add):
    add(5, 90, 20)
    add(7)
    add(30, 1)
    assert lengths(add.turns.take(1000)) == [1, 5, 7, 20, 30, 90]
    assert len(add.turns) == add.turns.tokens == 0
    assert add.turns.take(1000) == []


def test_a_huge_job_does_not_starve_small_ones(add):
    huge = add(*[100] * 2000)
    assert lengths(add.turns.take(1000)) == [100] * 10
    small = [add(20) for _ in range(5)]
    batch = add.turns.take(1000)
    assert all(lengths(batch, work) == [20] for work in small)
    assert lengths(batch, huge) == [100] * 9


def test_large_jobs_share_a_batch_equally_in_the_long_run(add):
    works = [add(*[100] * 300), add(*[10] * 3000), add(*[37] * 800)]
    got = dict.fromkeys(works, 0)
    for _ in range(25):
        for part in add.turns.take(1000):
            got[part.work] += len(part.row)
    assert max(got.values()) < 1.2 * min(got.values())


def test_every_job_has_its_turn_when_there_are_more_jobs_than_room(add):
    works = [add(*[200] * 20) for _ in range(30)]
    seen = []
    for _ in range(10):
        batch = add.turns.take(600)
        assert sum(lengths(batch)) <= 600
        seen += [part.work for part in batch]
    assert set(seen) == set(works)


def test_a_row_that_is_longer_than_a_batch_goes_alone(add):
    add(5000, 10)
    assert lengths(add.turns.take(1000)) == [5000]
    assert lengths(add.turns.take(1000)) == [10]


def test_removed_rows_are_not_counted(add):
    work, other = add(50, 60, 70), add(5)
    add.turns.take(100)
    add.turns.remove(work)
    add.turns.remove(work)
    left = lengths(add.turns.take(1000))
    assert set(left) <= {5}
    assert add.turns.tokens == 0
    assert not other.waiting
