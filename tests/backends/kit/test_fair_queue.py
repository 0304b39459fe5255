"""Whose items are next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ark_backends.kit.fair_queue import FairQueue, OwnersQueue


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


def test_what_is_over_the_budget_may_be_left(queue):
    add(queue, "a", 5000, 10)
    assert queue.take(1000, larger=False) == []
    assert costs(queue.take(5000, larger=False)) == [5000]


class TestOwners:
    @pytest.fixture
    def queue(self):
        return OwnersQueue(min_share=64)

    def add(self, queue, owner, key, *costs):
        queue.add(owner, key, [(cost, cost) for cost in costs])

    def test_many_jobs_of_one_take_nothing_from_another(self, queue):
        for number in range(200):
            self.add(queue, "many", f"many {number}", *[100] * 20)
        self.add(queue, "one", "one", *[100] * 300)
        got = {"many": 0, "one": 0}
        for _ in range(25):
            taken = queue.take(1000)
            assert 900 <= sum(costs(taken)) <= 1000
            for key, cost in taken:
                got[key.split()[0]] += cost
        assert max(got.values()) < 1.2 * min(got.values())

    def test_the_jobs_of_an_owner_share_what_it_gets(self, queue):
        self.add(queue, "a", "long", *[100] * 2000)
        self.add(queue, "a", "short", 20)
        self.add(queue, "b", "other", *[100] * 2000)
        taken = queue.take(1000)
        assert costs(taken, "short") == [20]
        assert sum(costs(taken)) >= 900

    def test_one_alone_gets_everything(self, queue):
        self.add(queue, "a", "x", *[100] * 20)
        assert costs(queue.take(1000)) == [100] * 10
        self.add(queue, "b", "y", 10)
        assert costs(queue.take(1000), "y") == [10]

    def test_all_that_waits_is_taken_where_there_is_room(self, queue):
        self.add(queue, "a", "x", 90, 20, 5)
        self.add(queue, "a", "y", 7)
        self.add(queue, "b", "z", 30, 1)
        assert queue.cost == 153
        assert sorted(costs(queue.take(1000))) == [1, 5, 7, 20, 30, 90]
        assert queue.cost == 0
        assert queue.take(1000) == []

    def test_an_item_that_is_over_the_budget_goes_alone(self, queue):
        self.add(queue, "a", "x", 5000)
        self.add(queue, "b", "y", 6000, 10)
        assert costs(queue.take(1000)) == [5000]
        assert costs(queue.take(1000)) == [6000]
        assert costs(queue.take(1000)) == [10]

    def test_an_item_larger_than_a_share_has_its_turn(self, queue):
        """It gains credit until it fits the budget."""
        self.add(queue, "a", "large", *[900] * 5)
        for number in range(9):
            self.add(queue, f"b{number}", f"small {number}", *[10] * 1000)
        seen = [cost for _ in range(40) for cost in costs(queue.take(1000), "large")]
        assert seen == [900] * len(seen)
        assert len(seen) >= 3

    def test_removed_items_are_not_counted(self, queue):
        self.add(queue, "a", "x", 50, 60)
        self.add(queue, "a", "y", 5)
        queue.remove("x")
        queue.remove("x")
        assert queue.cost == 5
        assert costs(queue.take(1000)) == [5]
        queue.remove("y")
        assert queue.take(1000) == []

    def test_a_job_without_items_waits_for_nothing(self, queue):
        queue.add("a", "x", [])
        assert queue.take(1000) == []

    @given(
        jobs=st.lists(
            st.tuples(st.integers(0, 3), st.lists(st.integers(1, 3000), max_size=8)), min_size=1, max_size=12
        ),
        budgets=st.lists(st.integers(1, 2000), min_size=1, max_size=5),
    )
    def test_every_item_is_taken_once(self, jobs, budgets):
        queue = OwnersQueue(min_share=64)
        for key, (owner, sizes) in enumerate(jobs):
            queue.add(str(owner), key, [((key, place, size), size) for place, size in enumerate(sizes)])
        expected = [(key, place, size) for key, (_, sizes) in enumerate(jobs) for place, size in enumerate(sizes)]
        seen = []
        while queue.cost:
            budget = budgets[len(seen) % len(budgets)]
            taken = queue.take(budget)
            assert taken
            assert len(taken) == 1 or sum(item[2] for _, item in taken) <= budget
            seen += [item for _, item in taken]
        assert sorted(seen) == expected
