"""The four forms of `input`."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ark.api.inputs import Inputs, read_inputs
from ark.errors import BadRequest, ContextLengthExceeded

TEXT = st.text(min_size=1)
ID = st.integers(0, 2**31 - 1)
IDS = st.lists(ID, min_size=1)


@pytest.mark.parametrize(
    ("value", "items", "single"),
    [
        ("a", ["a"], True),
        (["a"], ["a"], False),
        (["a", "b"], ["a", "b"], False),
        ([1, 2], [[1, 2]], True),
        ([[1, 2]], [[1, 2]], False),
        ([[1], [2, 3]], [[1], [2, 3]], False),
    ],
)
def test_every_form(value: Any, items: Any, single: bool) -> None:
    assert read_inputs(value) == Inputs(items, single=single)


def test_one_input_may_have_more_ids_than_a_request_may_have_inputs() -> None:
    ids: list[Any] = [7] * 5000
    assert read_inputs(ids).items == [ids]


@given(st.lists(st.one_of(TEXT, ID, IDS), min_size=1))
def test_a_list_is_of_one_kind_or_names_the_first_that_is_not(value: list[Any]) -> None:
    kinds = [type(item) for item in value]
    if len(set(kinds)) == 1:
        assert list(read_inputs(value).items) == ([value] if kinds[0] is int else value)
        return
    with pytest.raises(BadRequest) as caught:
        read_inputs(value)
    first = next(index for index, kind in enumerate(kinds) if kind is not kinds[0])
    assert caught.value.param == f"input[{first}]"


@pytest.mark.parametrize(
    ("single", "param", "expected"),
    [
        (True, "input[0]", "input"),
        (True, "input[0][3]", "input[3]"),
        (False, "input[0]", "input[0]"),
        (False, "input[12][3]", "input[12][3]"),
        (True, "dimensions", "dimensions"),
    ],
)
def test_an_error_of_a_backend_is_about_the_place_in_the_request(single: bool, param: str, expected: str) -> None:
    error = ContextLengthExceeded(f"Invalid '{param}': too long.", param=param)
    Inputs([[1]], single=single).rename_param(error)
    assert (error.param, error.message) == (expected, f"Invalid '{expected}': too long.")
