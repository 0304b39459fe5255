"""Every field of a chat request: values that are good, at the border, and bad."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from ark.api.chat.parameters import check_arguments
from ark.api.chat.schema import ChatRequest
from ark.api.request import decode
from ark.config import LimitsConfig
from ark.errors import BadRequest

DECODER = msgspec.json.Decoder(ChatRequest)
HI = {"role": "user", "content": "hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}
NAMED = {"type": "function", "function": {"name": "f"}}
ALLOWED = {"mode": "auto", "tools": [NAMED]}

GOOD: dict[str, list[Any]] = {
    "model": ["m", "org/name", "é", " "],
    "messages": [[HI], [HI] * 100],
    "stream": [True, False],
    "stream_options": [{}, {"include_usage": True}, {"include_usage": None}, {"unknown": 1}],
    "max_tokens": [1, 10**300],
    "max_completion_tokens": [1, 4096],
    "temperature": [0, 0.0, 2, 2.0, 1e-300, -0.0],
    "top_p": [0, 1, 0.5],
    "top_k": [-1, 0, 2**31 - 1],
    "min_p": [0, 1],
    "seed": [0, -(2**63), 2**63 - 1],
    "frequency_penalty": [-2, 2, 0.5],
    "presence_penalty": [-2.0, 2],
    "repetition_penalty": [0.01, 2],
    "logit_bias": [{}, {"50256": -100}, {"1": 100, "2": 0.5}],
    "logprobs": [True, False],
    "top_logprobs": [0, 20],
    "n": [1, 128],
    "stop": ["x", "x" * 1024, [], ["a", "b", "c", "d"], "\n"],
    "stop_token_ids": [[], [0, 1, 2]],
    "min_tokens": [0, 5],
    "ignore_eos": [True, False],
    "response_format": [
        {"type": "text"},
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "a-Z_9"}},
        {"type": "json_schema", "json_schema": {"name": "n" * 64, "schema": {}, "strict": True, "description": "d"}},
    ],
    "tools": [[], [TOOL], [TOOL] * 128, [{"type": "function", "function": {"name": "a.b-c_9", "strict": None}}]],
    "tool_choice": ["none", "auto", "required", NAMED, {"type": "allowed_tools", "allowed_tools": ALLOWED}],
    "parallel_tool_calls": [True, False],
    "functions": [[], [{"name": "f"}]],
    "function_call": ["none", "auto", {"name": "f"}],
    "reasoning_effort": ["none", "minimal", "low", "medium", "high", "xhigh", "max"],
    "chat_template_kwargs": [{}, {"enable_thinking": False}],
    "user": ["", "someone"],
    "prompt_cache_key": ["", "someone"],
    "metadata": [{}, {"session_id": 5}],
    "store": [True, False],
    "ark_simplified": [True, False],
    "ark_stateful": [True, False, "00000000-0000-4000-8000-000000000000"],
}
REQUIRED = ("model", "messages")

NOT_A_BOOL: list[Any] = [0, 1, "true", [], {}]
NOT_A_TEXT: list[Any] = [5, True, [], {}]
NOT_A_COUNT: list[Any] = [0, -1, 1.5, "5", True, [], {}]
NOT_A_PROBABILITY: list[Any] = [-0.001, 1.001, "1", True, []]
NOT_A_PENALTY: list[Any] = [-2.001, 2.001, "0", True]

BAD: dict[str, list[Any]] = {
    "model": ["", None, *NOT_A_TEXT],
    "messages": [[], None, "hi", HI, 5],
    "stream": NOT_A_BOOL,
    "stream_options": [True, "x", []],
    "max_tokens": NOT_A_COUNT,
    "max_completion_tokens": NOT_A_COUNT,
    "temperature": [-0.001, 2.001, "1", True, []],
    "top_p": NOT_A_PROBABILITY,
    "top_k": [-2, 1.5, "1", True, 2**31],
    "min_p": NOT_A_PROBABILITY,
    "seed": [-(2**63) - 1, 2**63, 1.5, "1", True],
    "frequency_penalty": NOT_A_PENALTY,
    "presence_penalty": NOT_A_PENALTY,
    "repetition_penalty": [0, -1, 2.001, "1", True],
    "logit_bias": [{"1": 101}, {"1": -101}, {"1": "5"}, {"1": None}, [], "x", 5],
    "logprobs": NOT_A_BOOL,
    "top_logprobs": [-1, 21, 1.5, "1", True],
    "n": [0, 129, 1.5, "1", True],
    "stop": ["", "x" * 1025, ["a", "b", "c", "d", "e"], 5, {}, True],
    "stop_token_ids": ["x", 5, {}],
    "min_tokens": [-1, 1.5, "1", True],
    "ignore_eos": NOT_A_BOOL,
    "response_format": ["text", [], 5],
    "tools": [{}, "x", 5, [TOOL] * 129],
    "tool_choice": [5, True, [], "any", ""],
    "parallel_tool_calls": NOT_A_BOOL,
    "functions": [{}, "x", 5],
    "function_call": [5, True, [], "required"],
    "reasoning_effort": [*NOT_A_TEXT, "", "most"],
    "chat_template_kwargs": [[], "x", 5, {f"k{i}": i for i in range(65)}],
    "user": NOT_A_TEXT,
    "prompt_cache_key": NOT_A_TEXT,
    "metadata": [[], "x", 5, True],
    "store": NOT_A_BOOL,
    "ark_simplified": NOT_A_BOOL,
    "ark_stateful": [5, [], {}],
}

BAD_INSIDE = [
    ("messages", [{}], "messages[0].role"),
    ("messages", [HI, {"role": "robot", "content": "x"}], "messages[1].role"),
    ("messages", [{"role": None, "content": "x"}], "messages[0].role"),
    ("messages", ["hi"], "messages[0]"),
    ("messages", [HI, None], "messages[1]"),
    ("messages", [{"role": "user", "content": 5}], "messages[0].content"),
    ("messages", [{"role": "user", "content": [{}]}], "messages[0].content[0].type"),
    ("messages", [{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
    (
        "messages",
        [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
        "messages[0].content[0].type",
    ),
    ("messages", [{"role": "user", "content": ["x"]}], "messages[0].content[0]"),
    ("messages", [HI | {"name": 5}], "messages[0].name"),
    ("messages", [HI | {"tool_calls": [{}]}], "messages[0].tool_calls[0].id"),
    ("messages", [HI | {"tool_calls": [{}]}], "messages[0].tool_calls[0].id"),
    ("messages", [HI | {"tool_call_id": 5}], "messages[0].tool_call_id"),
    ("stream_options", {"include_usage": "yes"}, "stream_options.include_usage"),
    ("response_format", {}, "response_format.type"),
    ("response_format", {"type": "xml"}, "response_format.type"),
    ("response_format", {"type": "json_schema", "json_schema": {}}, "response_format.json_schema.name"),
    ("response_format", {"type": "json_schema", "json_schema": {"name": "a b"}}, "response_format.json_schema.name"),
    (
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "a", "schema": []}},
        "response_format.json_schema.schema",
    ),
    (
        "response_format",
        {"type": "json_schema", "json_schema": {"name": "a", "strict": 1}},
        "response_format.json_schema.strict",
    ),
    ("tools", [TOOL, {"type": "function"}], "tools[1].function"),
    ("tools", [{"type": "other", "custom": {"name": "f"}}], "tools[0].type"),
    ("tools", [{"type": "custom", "custom": {}}], "tools[0].custom.name"),
    (
        "tools",
        [{"type": "custom", "custom": {"name": "f", "format": {"type": "grammar", "grammar": {"syntax": "x"}}}}],
        "tools[0].custom.format.grammar.syntax",
    ),
    ("tools", [{"type": "function", "function": {}}], "tools[0].function.name"),
    ("tools", [{"type": "function", "function": {"name": "a b"}}], "tools[0].function.name"),
    ("tools", [{"type": "function", "function": {"name": "n" * 65}}], "tools[0].function.name"),
    ("tools", [{"type": "function", "function": {"name": "f", "parameters": []}}], "tools[0].function.parameters"),
    ("tools", [{"type": "function", "function": {"name": "f", "strict": 1}}], "tools[0].function.strict"),
    ("tool_choice", {"type": "function"}, "tool_choice.function"),
    ("tool_choice", {"type": "function", "function": {"name": 5}}, "tool_choice.function.name"),
    ("tool_choice", {"type": "tool"}, "tool_choice.type"),
    (
        "tool_choice",
        {"type": "allowed_tools", "allowed_tools": ALLOWED | {"mode": "none"}},
        "tool_choice.allowed_tools.mode",
    ),
    (
        "tool_choice",
        {"type": "allowed_tools", "allowed_tools": ALLOWED | {"tools": []}},
        "tool_choice.allowed_tools.tools",
    ),
    ("functions", [{"name": ""}], "functions[0].name"),
    ("function_call", {}, "function_call.name"),
    ("logit_bias", {"5": 101}, "logit_bias"),
    ("stop", ["a", ""], "stop[1]"),
    ("stop", ["a", 5], "stop[1]"),
    ("stop_token_ids", [1, -1], "stop_token_ids[1]"),
    ("stop_token_ids", ["x"], "stop_token_ids[0]"),
    ("response_format", {}, "response_format.type"),
    ("response_format", {"type": "xml"}, "response_format.type"),
    ("tools", [5], "tools[0]"),
    ("functions", ["f"], "functions[0]"),
    ("messages", [HI | {"name": "n" * 1025}], "messages[0].name"),
    ("messages", [{"role": "tool", "content": "x", "tool_call_id": "i" * 1025}], "messages[0].tool_call_id"),
]


def read(**fields: Any) -> ChatRequest:
    return decode(DECODER, json.dumps({"model": "m", "messages": [HI], **fields}).encode(), LimitsConfig())


def refused(**fields: Any) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    return caught.value


def test_the_tables_have_every_field() -> None:
    fields = set(ChatRequest.__struct_fields__)
    assert set(GOOD) == fields
    assert set(BAD) == fields


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD.items() for value in values])
def test_a_good_value(name: str, value: Any) -> None:
    got = getattr(read(**{name: value}), name)
    if not isinstance(value, list | dict):
        assert got == value


@pytest.mark.parametrize("name", [name for name in GOOD if name not in REQUIRED])
def test_null_is_as_if_it_was_not_sent(name: str) -> None:
    assert getattr(read(**{name: None}), name) is None


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_a_bad_value_is_named(name: str, value: Any) -> None:
    error = refused(**{name: value})
    assert error.param == name
    assert f"'{name}'" in error.message
    assert error.code in {"invalid_value", "invalid_type"}


@pytest.mark.parametrize(("name", "value", "param"), BAD_INSIDE)
def test_a_bad_value_inside_is_named_by_its_place(name: str, value: Any, param: str) -> None:
    error = refused(**{name: value})
    assert error.param == param
    assert f"'{param}'" in error.message


def test_unknown_fields_are_accepted() -> None:
    read(metadata={"a": [1]}, store=True, service_tier="auto", prediction=None, anything={"deep": [{}]})


def calling(*arguments: str) -> list[dict[str, Any]]:
    calls = [{"id": "a", "type": "function", "function": {"name": "f", "arguments": one}} for one in arguments]
    return [{"role": "assistant", "tool_calls": calls}]


def test_arguments_are_held_together_to_the_limits_of_a_body() -> None:
    limits = LimitsConfig(json_depth=9, json_values=150)
    check_arguments(read(messages=calling("[" * 9 + "]" * 9, "[[],[],[]]")).messages, limits)
    for arguments in (["[" * 10 + "]" * 10], ["[[],[],[],[]]"] * 3):
        with pytest.raises(BadRequest):
            check_arguments(read(messages=calling(*arguments)).messages, limits)
