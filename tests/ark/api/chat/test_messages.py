"""Messages of a request, as templates read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from ark.api.chat.parameters import read_messages
from ark.api.chat.schema import ChatMessage
from ark.errors import BadRequest


def template(*messages: dict[str, Any]) -> list[Mapping[str, Any]]:
    return [message.data for message in read_messages(msgspec.convert(list(messages), list[ChatMessage]))]


def call(arguments: str = '{"a": 1}', **more: Any) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}, **more}


TEMPLATE_CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"role": "user", "content": "hello"}, {"role": "user", "content": "hello"}),
        ({"role": "user", "content": ""}, {"role": "user", "content": ""}),
        ({"role": "system", "content": "s"}, {"role": "system", "content": "s"}),
        ({"role": "developer", "content": "d"}, {"role": "system", "content": "d"}),
        ({"role": "user", "content": "x", "name": "n"}, {"role": "user", "content": "x", "name": "n"}),
        ({"role": "user", "content": "x", "unknown": [1]}, {"role": "user", "content": "x"}),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "user", "content": "a\nb"},
        ),
        ({"role": "user", "content": []}, {"role": "user", "content": ""}),
        ({"role": "assistant", "content": "a"}, {"role": "assistant", "content": "a"}),
        ({"role": "assistant", "content": None, "refusal": "no"}, {"role": "assistant", "content": "no"}),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "assistant", "content": "no"},
        ),
        (
            {"role": "assistant", "content": "a", "reasoning_content": "why"},
            {"role": "assistant", "content": "a", "reasoning_content": "why"},
        ),
        (
            {"role": "assistant", "tool_calls": [call()]},
            {"role": "assistant", "content": "", "tool_calls": [TEMPLATE_CALL]},
        ),
        (
            {"role": "assistant", "content": "x", "tool_calls": []},
            {"role": "assistant", "content": "x"},
        ),
        (
            {"role": "tool", "content": "42", "tool_call_id": "call_1"},
            {"role": "tool", "content": "42", "tool_call_id": "call_1"},
        ),
    ],
)
def test_a_message(message: dict[str, Any], expected: dict[str, Any]) -> None:
    assert template(message) == [expected]


def test_empty_arguments_are_an_empty_object() -> None:
    (message,) = template({"role": "assistant", "tool_calls": [call("")]})
    assert message["tool_calls"][0]["function"]["arguments"] == {}


@pytest.mark.parametrize("arguments", ["{", '{"city": "Par', "look at the sea", '"{}"', "[" * 100_000])
def test_arguments_that_are_no_json_value_stay_text(arguments: str) -> None:
    """The length of a reply cuts them, and the client can only send them back."""
    called, function = template(
        {"role": "assistant", "tool_calls": [call(), call(arguments)]},
        {"role": "assistant", "function_call": {"name": "f", "arguments": arguments}},
    )
    assert called["tool_calls"][1]["function"]["arguments"] == arguments
    assert function["tool_calls"][0]["function"]["arguments"] == arguments


def test_functions_are_the_tools_of_before() -> None:
    asked, answered = template(
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a": 1}'}},
        {"role": "function", "name": "f", "content": "42"},
    )
    assert asked["tool_calls"][0]["function"] == {"name": "f", "arguments": {"a": 1}}
    assert answered["role"] == "tool"
    assert answered["tool_call_id"] == asked["tool_calls"][0]["id"]


@pytest.mark.parametrize(
    ("message", "param", "code"),
    [
        ({"role": "user"}, "content", "invalid_value"),
        ({"role": "user", "content": None}, "content", "invalid_value"),
        ({"role": "system"}, "content", "invalid_value"),
        ({"role": "assistant"}, "content", "invalid_value"),
        ({"role": "assistant", "tool_calls": []}, "content", "invalid_value"),
        ({"role": "tool", "content": "42"}, "tool_call_id", "missing_required_parameter"),
        ({"role": "tool", "tool_call_id": "call_1"}, "content", "invalid_value"),
        ({"role": "function", "content": "42"}, "name", "missing_required_parameter"),
    ],
)
def test_a_bad_message_is_named(message: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(BadRequest) as caught:
        template({"role": "user", "content": "fine"}, message)
    assert caught.value.param == f"messages[1].{param}"
    assert caught.value.code == code
    assert caught.value.param in caught.value.message


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "a", "name": "x" * 1025},
        {"role": "tool", "content": "a", "tool_call_id": "x" * 1025},
        {"role": "assistant", "tool_calls": [{"id": "x" * 1025, "function": {"name": "f", "arguments": ""}}]},
        {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "x" * 1025, "arguments": ""}}]},
        {"role": "assistant", "function_call": {"name": "x" * 1025, "arguments": ""}},
    ],
)
def test_what_no_template_need_write_is_short(message: dict[str, Any]) -> None:
    """The context's length does not bound it, and sessions keep it."""
    with pytest.raises(msgspec.ValidationError, match="length <= 1024"):
        msgspec.convert([message], list[ChatMessage])
