"""Parts of a batch on threads of their own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ark_backends.bge.lanes import MIN_TOKENS, UNEVEN, Lanes, deal


@given(st.lists(st.integers(1, 512), max_size=60), st.integers(1, 8))
def test_rows_are_dealt_evenly_or_not_at_all(lengths, count):
    parts = deal(lengths, count)
    if parts is None:
        return
    assert sorted(index for part in parts for index in part) == list(range(len(lengths)))
    assert all(part == sorted(part) for part in parts)
    tokens = [sum(lengths[index] for index in part) for part in parts]
    assert sum(tokens) >= MIN_TOKENS * count
    assert max(tokens) * count <= UNEVEN * sum(tokens)


def test_equal_rows_are_dealt():
    assert deal([100] * 8, 2) is not None


def test_a_row_alone_keeps_all_threads():
    assert deal([5000], 2) is None


def test_a_part_that_fails_fails_the_batch():
    lanes = Lanes(2)

    def work(part):
        if part == 1:
            raise RuntimeError("no memory")
        return [part]

    with pytest.raises(RuntimeError, match="no memory"):
        lanes.map(work, [0, 1])
    assert lanes.map(work, [2, 3]) == [[2], [3]]
    lanes.close()


def test_lanes_leave_the_threads_of_others_as_they_are():
    import torch

    before = torch.get_num_threads()
    lanes = Lanes(2)
    assert torch.get_num_threads() == before
    assert lanes.map(lambda _: [torch.get_num_threads()], [0, 1]) == [[1], [1]]
    lanes.close()


def test_lanes_compute_together_what_cannot_be_dealt():
    import torch

    lanes = Lanes(2)
    before = torch.get_num_threads()
    assert lanes.together(torch.get_num_threads) == 2
    assert torch.get_num_threads() == before
    with pytest.raises(RuntimeError, match="no memory"):
        lanes.together(_fail)
    lanes.close()


def _fail():
    raise RuntimeError("no memory")
