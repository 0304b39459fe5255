"""Every field of a request for embeddings: values that are good, at the border, and bad."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from ark.api.embeddings.schema import EmbeddingRequest
from ark.api.inputs import read_inputs
from ark.api.request import decode
from ark.config import LimitsConfig
from ark.errors import BadRequest

DECODER = msgspec.json.Decoder(EmbeddingRequest)
LARGEST_ID = 2**31 - 1

GOOD: dict[str, list[Any]] = {
    "model": ["m", "org/name", "é", " "],
    "input": [
        *("hello", " ", "\0", "\n", "é" * 10_000, "😀"),
        *(["a"], ["a"] * 2048, ["a", " ", "\0"]),
        *([0], [LARGEST_ID], [1] * 10_000),
        *([[1]], [[0, LARGEST_ID], [2]], [[5]] * 2048),
    ],
    "encoding_format": ["float", "base64"],
    "dimensions": [1, 1536, 2**31 - 1],
    "user": ["", "someone", "\0"],
    "ark_truncate": [True, False],
    "ark_sparse": [True, False],
    "ark_colbert": [True, False],
}
REQUIRED = ("model", "input")

NOT_A_BOOL: list[Any] = [0, 1, 0.0, "true", "", [], {}]
NOT_A_TEXT: list[Any] = [5, 0.5, True, [], {}]

BAD: dict[str, list[Any]] = {
    "model": ["", None, *NOT_A_TEXT],
    "input": ["", None, [], {}, 5, 0.5, True, ["a"] * 2049, [[1]] * 2049, {"text": "a"}],
    "encoding_format": ["", "Float", "base32", "float32", *NOT_A_TEXT],
    "dimensions": [0, -1, 2**31, 10**30, 1.5, 256.5, "256", "", True, [], {}],
    "user": NOT_A_TEXT,
    "ark_truncate": NOT_A_BOOL,
    "ark_sparse": NOT_A_BOOL,
    "ark_colbert": NOT_A_BOOL,
}

BAD_INSIDE: list[tuple[Any, str]] = [
    ([""], "input[0]"),
    (["a", ""], "input[1]"),
    ([[]], "input[0]"),
    ([[1], []], "input[1]"),
    ([None], "input[0]"),
    (["a", None], "input[1]"),
    ([{}], "input[0]"),
    ([True], "input[0]"),
    ([1, False], "input[1]"),
    ([1, 2.5], "input[1]"),
    ([1, -1], "input[1]"),
    ([LARGEST_ID + 1], "input[0]"),
    ([10**40], "input[0]"),
    (["a", "b", 3], "input[2]"),
    ([1, "a"], "input[1]"),
    ([1, 2, [3]], "input[2]"),
    ([[1], 2], "input[1]"),
    ([[1], "a"], "input[1]"),
    (["a", [1]], "input[1]"),
    ([[1, 2, "a"]], "input[0][2]"),
    ([[1], [2], [3], [4, 5, None]], "input[3][2]"),
    ([[1, True]], "input[0][1]"),
    ([[1, -5]], "input[0][1]"),
    ([[1], [1.5]], "input[1][0]"),
    ([[10**40]], "input[0][0]"),
    ([["a"]], "input[0][0]"),
    ([[[1]]], "input[0][0]"),
]


def read(**fields: Any) -> EmbeddingRequest:
    request = decode(DECODER, json.dumps({"model": "m", "input": "hello", **fields}).encode(), LimitsConfig())
    read_inputs(request.input)
    return request


def refused(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    return caught.value


def test_the_tables_have_every_field() -> None:
    fields = set(EmbeddingRequest.__struct_fields__)
    assert set(GOOD) == fields
    assert set(BAD) == fields


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_a_good_value(name: str, value: Any) -> None:
    assert getattr(read(**{name: value}), name) == value


@pytest.mark.parametrize("name", [name for name in GOOD if name not in REQUIRED])
def test_null_is_as_if_it_was_not_sent(name: str) -> None:
    assert getattr(read(**{name: None}), name) is None


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_is_named(name: str, value: Any) -> None:
    error = refused(**{name: value})
    assert (error.status, error.param) == (400, name)
    assert f"'{name}'" in error.message
    assert error.code in {"invalid_value", "invalid_type"}
    assert len(error.message) < 500


@pytest.mark.parametrize(("value", "param"), BAD_INSIDE)
def test_a_bad_value_inside_is_named_by_its_place(value: Any, param: str) -> None:
    error = refused(input=value)
    assert (error.status, error.param) == (400, param)
    assert f"'{param}'" in error.message


def test_the_first_wrong_place_of_many_is_named() -> None:
    assert refused(input=["a"] * 2047 + [[1]]).param == "input[2047]"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "m", "input": "\\ud800"}',
        b'{"model": "m", "input": ["a", "\\udfff"]}',
        b'{"model": "m", "input": "\xff"}',
        b'{"model": "m", "input": "\xed\xa0\x80"}',
        b'{"model": "m", "input": "a\x00b"}',
        b'{"model": "m", "input": [NaN]}',
        b'{"model": "m", "input": [1, 01]}',
        b'{"model": "m", "input": [1,]}',
        b'{"model": "m", "input": "a"',
        b'{"model": "m", "anything": ' + b"[" * 100_000 + b"]" * 100_000 + b', "input": "a"}',
    ],
)
def test_what_is_not_json(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        decode(DECODER, body, LimitsConfig())
    assert (caught.value.code, caught.value.param) == ("invalid_json", None)


@pytest.mark.parametrize("depth", [3, 100, 100_000])
def test_ids_nested_too_deeply(depth: int) -> None:
    with pytest.raises(BadRequest) as caught:
        decode(DECODER, b'{"model": "m", "input": ' + b"[" * depth + b"1" + b"]" * depth + b"}", LimitsConfig())
    assert caught.value.status == 400
    # Far too deep, it need not be read as far as the place.
    assert caught.value.param == "input[0][0]" or depth == 100_000


@pytest.mark.parametrize(("body", "param"), [(b"{}", "model"), (b'{"model": "m"}', "input")])
def test_a_field_that_is_missing(body: bytes, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        decode(DECODER, body, LimitsConfig())
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", param)


def test_unknown_fields_are_accepted() -> None:
    read(metadata={"a": [1]}, input_type="query", anything={"deep": [{}]})
