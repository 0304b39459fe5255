"""Bodies as typed requests."""

from __future__ import annotations

import json
import sys
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ark.api.chat.schema import ChatRequest
from ark.api.request import CONTAINER, check_shape, decode
from ark.config import LimitsConfig
from ark.errors import BadRequest

DECODER = msgspec.json.Decoder(ChatRequest)
LIMITS = LimitsConfig()
GOOD = b'"model": "m", "messages": [{"role": "user", "content": "hi"}]'


def refused(body: bytes) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        decode(DECODER, body, LIMITS)
    return caught.value


def field(text: str) -> bytes:
    return b"{" + GOOD + b", " + text.encode() + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{" + GOOD,
        b"{" + GOOD + b",}",
        b"{" + GOOD + b"} trailing",
        b"{" + GOOD + b"}{" + GOOD + b"}",
        b"\xef\xbb\xbf{" + GOOD + b"}",
        b"model=m&messages=hi",
        b"{'model': 'm'}",
        b"\xff\xfe",
        field('"user": "\\ud800"'),
        field('"temperature": NaN'),
        field('"temperature": Infinity'),
        field('"temperature": -Infinity'),
        field('"temperature": 01'),
        field('"user": "\x01"'),
        b"{" + GOOD + b', "user": "\xff"}',
        b"{" + GOOD + b', "user": "\xed\xa0\x80"}',
    ],
)
def test_what_is_not_json(body: bytes) -> None:
    error = refused(body)
    assert error.status == 400
    assert error.code == "invalid_json"
    assert error.param is None


@pytest.mark.parametrize("name", ["unknown", "tools", "chat_template_kwargs", "messages", "response_format"])
@pytest.mark.parametrize("brackets", ["[]", '{"a":}'])
def test_what_is_nested_too_deeply(name: str, brackets: str) -> None:
    opening, closing = brackets[:-1], brackets[-1]
    if name in {"tools", "messages"}:
        opening = "[" + opening
    error = refused(field(f'"{name}": {opening * 100_000}1{closing * 100_000}'))
    assert error.status == 400


@pytest.mark.parametrize("body", [b"[]", b"null", b'"text"', b"5", b"true"])
def test_a_body_that_is_no_object(body: bytes) -> None:
    error = refused(body)
    assert error.code == "invalid_type"
    assert error.param is None


@pytest.mark.parametrize(("body", "param"), [(b"{}", "model"), (b'{"model": "m"}', "messages")])
def test_a_field_that_is_missing(body: bytes, param: str) -> None:
    error = refused(body)
    assert error.code == "missing_required_parameter"
    assert error.message == f"Missing required parameter: '{param}'."
    assert error.param == param


@pytest.mark.parametrize("text", ['"temperature": 1e400', f'"seed": {"9" * 400}', '"temperature": -1e400'])
def test_a_number_too_large(text: str) -> None:
    assert refused(field(text)).param == text.partition(":")[0].strip('"')


def test_of_a_repeated_key_the_last_counts() -> None:
    assert decode(DECODER, field('"temperature": 0, "temperature": 2'), LIMITS).temperature == 2


def test_a_long_bad_value_does_not_come_back() -> None:
    error = refused(field('"response_format": {"type": "' + "x" * 100_000 + '"}'))
    assert len(error.message) < 500
    assert error.param == "response_format.type"


@pytest.mark.parametrize("role", ["x - at `$.y`", "`", "' - at `$`", "key in `$"])
def test_a_value_that_looks_like_a_place_is_not_taken_for_one(role: str) -> None:
    error = refused(b'{"model": "m", "messages": [{"role": "' + role.encode() + b'", "content": "x"}]}')
    assert error.param == "messages[0].role"


@given(st.binary(max_size=40))
def test_any_bytes_are_decoded_or_refused(tail: bytes) -> None:
    for body in (tail, b"{" + GOOD + tail, b"{" + GOOD + b', "user": ' + tail + b"}"):
        with suppress(BadRequest):
            decode(DECODER, body, LIMITS)


NESTED = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{}"\\a\n') | st.just([]) | st.just({}),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='[]{}"\\', max_size=3), inner, max_size=3)
    ),
    max_leaves=30,
)


def depth_of(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(NESTED, st.integers(1, 8), st.sampled_from([None, 1]))
def test_the_depth_of_any_json_is_seen(value: object, limit: int, indent: int | None) -> None:
    body = json.dumps(value, indent=indent).encode()
    assert is_refused(body, depth=limit) == (depth_of(value) > limit)


def is_refused(body: bytes, *, depth: int = sys.maxsize, values: int = sys.maxsize) -> bool:
    try:
        check_shape(body, depth=depth, values=values)
    except BadRequest as error:
        return error.code == "invalid_json"
    return False


def cost_of(value: object) -> int:
    if not isinstance(value, (dict, list)):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    keys = len(value) if isinstance(value, dict) else 0
    return CONTAINER + keys + max(0, len(value) - 1) + sum(map(cost_of, inner))


@given(NESTED, st.sampled_from([None, 1]), st.integers(1, 7))
def test_the_values_of_any_json_are_counted(value: object, indent: int | None, piece: int) -> None:
    body, cost = json.dumps(value, indent=indent).encode(), cost_of(value)
    with pytest.MonkeyPatch.context() as patch:
        # So that every place of the text is once between two pieces.
        patch.setattr("ark.api.request._CHUNK_SIZE", piece)
        assert not is_refused(body, values=cost, depth=depth_of(value))
        assert not cost or is_refused(body, values=cost - 1)
        assert not depth_of(value) or is_refused(body, depth=depth_of(value) - 1)


@pytest.mark.parametrize("inner", ["[{}]", '{{"a": {}}}'])
@pytest.mark.parametrize(
    ("place", "above"),
    [('"anything": {}', 1), ('"metadata": {{"a": {}}}', 2), ('"chat_template_kwargs": {{"a": {}}}', 2)],
)
def test_a_body_that_is_nested_too_deeply_is_refused_wherever_it_is(place: str, above: int, inner: str) -> None:
    value = "1"
    for _ in range(10 - above):
        value = inner.format(value)
    assert decode(DECODER, field(place.format(value)), LimitsConfig(json_depth=10)).model == "m"
    with pytest.raises(BadRequest) as caught:
        decode(DECODER, field(place.format(inner.format(value))), LimitsConfig(json_depth=10))
    assert caught.value.code == "invalid_json"
    assert "more than 10 deep" in caught.value.message


@pytest.mark.parametrize(
    ("text", "param"),
    [
        (f'"stop_token_ids": {[1] * 1025}', "stop_token_ids"),
        (
            '"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": ['
            + ", ".join(['{"type": "function", "function": {"name": "f"}}'] * 129)
            + "]}}",
            "tool_choice.allowed_tools.tools",
        ),
    ],
)
def test_lists_have_an_end(text: str, param: str) -> None:
    assert refused(field(text)).param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ('"role": "user", "content": [' + ", ".join(['{"type": "text", "text": "a"}'] * 1025) + "]", "content"),
        (
            '"role": "assistant", "tool_calls": ['
            + ", ".join(['{"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}'] * 1025)
            + "]",
            "tool_calls",
        ),
    ],
)
def test_lists_of_messages_have_an_end(fields: str, param: str) -> None:
    body = f'{{"model": "m", "messages": [{{{fields}}}]}}'.encode()
    assert refused(body).param == f"messages[0].{param}"


@pytest.mark.parametrize("text", ["a\\ud800b", "\\ud800", "\\uDC00", "\\ud83d\\ud83d\\ude42"])
def test_half_of_a_surrogate_pair_is_called_that(text: str) -> None:
    with pytest.raises(BadRequest, match="half of a surrogate pair"):
        decode(DECODER, field(f'"user": "{text}"'), LIMITS)


def test_whole_pairs_are_text() -> None:
    decode(DECODER, field('"user": "\\ud83d\\ude42"'), LIMITS)
    with pytest.raises(BadRequest, match="truncated"):
        decode(DECODER, field('"user": "\\ud83d\\ude42"')[:-3], LIMITS)
