"""Parts of a batch on threads of their own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ark_backends.bge.worker_streams import MIN_TOKENS, UNEVEN, WorkerStreams, split_evenly


@given(st.lists(st.integers(1, 512), max_size=60), st.integers(1, 8))
def test_rows_are_split_evenly_or_not_at_all(lengths, count):
    parts = split_evenly(lengths, count)
    if parts is None:
        return
    assert sorted(index for part in parts for index in part) == list(range(len(lengths)))
    assert all(part == sorted(part) for part in parts)
    tokens = [sum(lengths[index] for index in part) for part in parts]
    assert sum(tokens) >= MIN_TOKENS * count
    assert max(tokens) * count <= UNEVEN * sum(tokens)


def test_equal_rows_are_split():
    assert split_evenly([100] * 8, 2) is not None


def test_a_row_alone_keeps_all_threads():
    assert split_evenly([5000], 2) is None


def test_a_part_that_fails_fails_the_batch():
    streams = WorkerStreams(2)

    def work(part):
        if part == 1:
            raise RuntimeError("no memory")
        return [part]

    with pytest.raises(RuntimeError, match="no memory"):
        streams.map(work, [0, 1])
    assert streams.map(work, [2, 3]) == [[2], [3]]
    streams.close()


def test_streams_leave_the_threads_of_others_as_they_are():
    import torch

    before = torch.get_num_threads()
    streams = WorkerStreams(2)
    assert torch.get_num_threads() == before
    assert streams.map(lambda _: [torch.get_num_threads()], [0, 1]) == [[1], [1]]
    streams.close()


def test_streams_compute_together_what_cannot_be_split():
    import torch

    streams = WorkerStreams(2)
    before = torch.get_num_threads()
    assert streams.together(torch.get_num_threads) == 2
    assert torch.get_num_threads() == before
    with pytest.raises(RuntimeError, match="no memory"):
        streams.together(_fail)
    streams.close()


def _fail():
    raise RuntimeError("no memory")
