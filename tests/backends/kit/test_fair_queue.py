"""Whose items are next."""

import pytest

from ark_backends.kit.fair_queue import FairQueue


@pytest.fixture
def queue():
    return FairQueue(min_share=64)


def add(queue, key, *costs):
    """Items that are their own costs."""
    queue.add(key, [(cost, cost) for cost in costs])


def costs(taken, key=None):
    return [cost for owner, cost in taken if key in (None, owner)]


def test_all_that_waits_is_taken_where_there_is_room(queue):
    add(queue, "a", 90, 20, 5)
    add(queue, "b", 7)
    add(queue, "c", 30, 1)
    assert (len(queue), queue.cost) == (3, 153)
    assert costs(queue.take(1000)) == [90, 20, 5, 7, 30, 1]
    assert len(queue) == queue.cost == 0
    assert queue.take(1000) == []


def test_a_huge_job_does_not_starve_small_ones(queue):
    add(queue, "huge", *[100] * 2000)
    assert costs(queue.take(1000)) == [100] * 10
    for name in "abcde":
        add(queue, name, 20)
    taken = queue.take(1000)
    assert all(costs(taken, name) == [20] for name in "abcde")
    assert costs(taken, "huge") == [100] * 9


def test_large_jobs_share_equally_in_the_long_run(queue):
    add(queue, "a", *[100] * 300)
    add(queue, "b", *[10] * 3000)
    add(queue, "c", *[37] * 800)
    got = dict.fromkeys("abc", 0)
    for _ in range(25):
        for key, cost in queue.take(1000):
            got[key] += cost
    assert max(got.values()) < 1.2 * min(got.values())


def test_every_job_has_its_turn_when_there_are_more_jobs_than_room(queue):
    for key in range(30):
        add(queue, key, *[200] * 20)
    seen = set()
    for _ in range(10):
        taken = queue.take(600)
        assert sum(costs(taken)) <= 600
        seen |= {key for key, _ in taken}
    assert seen == set(range(30))


def test_an_item_that_is_over_the_budget_goes_alone(queue):
    add(queue, "a", 5000, 10)
    assert costs(queue.take(1000)) == [5000]
    assert costs(queue.take(1000)) == [10]


def test_removed_items_are_not_counted(queue):
    add(queue, "a", 50, 60, 70)
    add(queue, "b", 5)
    queue.take(100)
    queue.remove("a")
    queue.remove("a")
    assert set(costs(queue.take(1000))) <= {5}
    assert (len(queue), queue.cost) == (0, 0)


def test_items_of_a_known_key_stand_behind_its_others(queue):
    add(queue, "a", 1, 2)
    add(queue, "b", 3)
    add(queue, "a", 4)
    add(queue, "c")
    assert (len(queue), queue.cost) == (2, 10)
    assert costs(queue.take(1000)) == [1, 2, 4, 3]


def test_single_items_go_round():
    queue = FairQueue()
    left = {"long": 5, "short": 1, "middle": 2}
    for key in left:
        add(queue, key, 1)
    order = []
    while taken := queue.take(1):
        ((key, _),) = taken
        order.append(key)
        left[key] -= 1
        if left[key]:
            add(queue, key, 1)
    assert order == ["long", "short", "middle", "long", "middle", "long", "long", "long"]
