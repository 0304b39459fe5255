"""Calls whose arguments are tags or stand beside a name: OpenAI's client against a real server with a random model.

The grammar makes the model write calls; what comes out must be what the schema asks for, whole, streamed, and again.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import openai
import pytest

pytest.importorskip("torch")
pytest.importorskip("jsonschema")

import jsonschema
from running import serve
from tiny_model import HERMES, TAGS, save_tiny_llama

from ark.app import create_app
from ark.config import Config, LimitsConfig, ModelConfig

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["Paris", "New York"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "exact": {"type": "boolean"},
        "hours": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 23}, "maxItems": 3},
        "unit": {"anyOf": [{"type": "string", "enum": ["C", "F"]}, {"type": "null"}]},
    },
    "required": ["city", "days", "hours", "unit"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "forecast", "parameters": SCHEMA, "strict": True}},
    {"type": "function", "function": {"name": "now"}},
]
SCHEMAS = {"forecast": SCHEMA, "now": {"type": "object", "maxProperties": 0}}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    path = tmp_path_factory.mktemp("model")
    save_tiny_llama(path, hidden=32, layers=1, template=HERMES, tags=TAGS)
    engine = {"dtype": "float32", "threads": 1, "self_check": False}
    models = (
        ModelConfig(name="mistral_args", path=str(path), engine=engine, tool_format="mistral_args"),
        ModelConfig(name="qwen_xml", path=str(path), engine=engine, tool_format="qwen_xml"),
    )
    with (
        serve(create_app(Config(models=models, limits=LimitsConfig(string_length=50, array_items=5)))) as running,
        openai.OpenAI(
            base_url=f"{running.url}/v1", api_key="none", max_retries=0, timeout=60, _strict_response_validation=True
        ) as made,
    ):
        yield made


def ask(client: openai.OpenAI, model: str, messages: list[Any] = HELLO, **more: Any) -> Any:
    extra = {"chat_template_kwargs": {"enable_thinking": False}} | more.pop("extra_body", {"ark_stateful": False})
    fields: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required", "max_tokens": 400, "temperature": 1.5} | more
    return client.chat.completions.create(model=model, messages=messages, extra_body=extra, **fields)


def streamed(chunks: Any) -> list[tuple[str, str]]:
    calls: dict[int, list[str]] = {}
    for chunk in chunks:
        for delta in chunk.choices[0].delta.tool_calls or ():
            name, arguments = calls.setdefault(delta.index, [delta.function.name, ""])
            calls[delta.index] = [name, arguments + (delta.function.arguments or "")]
    return [(name, arguments) for name, arguments in calls.values()]


@pytest.mark.parametrize("model", ["mistral_args", "qwen_xml"])
def test_required_calls_are_as_their_schemas_say(client: openai.OpenAI, model: str) -> None:
    reply = ask(client, model, n=12, seed=1, parallel_tool_calls=False)
    names = set()
    for choice in reply.choices:
        assert choice.finish_reason == "tool_calls"
        assert not choice.message.content
        (call,) = choice.message.tool_calls
        names.add(call.function.name)
        jsonschema.validate(json.loads(call.function.arguments), SCHEMAS[call.function.name])
    assert names == {"forecast", "now"}


def test_a_string_ends_in_a_reply_without_max_tokens(client: openai.OpenAI) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "text", "schema": {"type": "string"}}}
    # The model never closes it by itself.
    fields: dict[str, Any] = {
        "tools": openai.omit,
        "tool_choice": openai.omit,
        "logit_bias": {str(ord('"') - 33): -100},
    }
    choice = ask(client, "qwen_xml", response_format=form, max_tokens=None, **fields).choices[0]
    assert choice.finish_reason == "stop"
    assert len(json.loads(choice.message.content)) == 50
    cut = ask(client, "qwen_xml", response_format=form, max_tokens=200, **fields).choices[0]
    assert cut.finish_reason == "length"


def test_a_model_that_closes_no_array_ends_where_nobody_says_how_long(client: openai.OpenAI) -> None:
    schema = {"type": "array", "items": {"type": "boolean"}}
    form: Any = {"type": "json_schema", "json_schema": {"name": "list", "schema": schema}}
    fields: dict[str, Any] = {
        "tools": openai.omit,
        "tool_choice": openai.omit,
        "logit_bias": {str(ord("]") - 33): -100},
        "response_format": form,
    }
    choice = ask(client, "qwen_xml", max_tokens=None, **fields).choices[0]
    assert choice.finish_reason == "stop"
    assert len(json.loads(choice.message.content)) == 5
    assert ask(client, "qwen_xml", max_tokens=100, **fields).choices[0].finish_reason == "length"


@pytest.mark.parametrize("model", ["mistral_args", "qwen_xml"])
@pytest.mark.parametrize("name", ["forecast", "now"])
def test_a_named_call_streams_what_it_says_whole(client: openai.OpenAI, model: str, name: str) -> None:
    fields: dict[str, Any] = {"seed": 3, "tool_choice": {"type": "function", "function": {"name": name}}}
    whole = [
        (call.function.name, call.function.arguments)
        for call in ask(client, model, **fields).choices[0].message.tool_calls
    ]
    assert [name for name, _ in whole] == [name]
    assert streamed(ask(client, model, stream=True, **fields)) == whole


@pytest.mark.parametrize("model", ["mistral_args", "qwen_xml"])
@pytest.mark.parametrize("stateful", [False, True])
def test_a_conversation_goes_on_after_a_call_that_was_cut(client: openai.OpenAI, model: str, stateful: bool) -> None:
    extra = {"ark_stateful": str(uuid.uuid4()) if stateful else False}
    forced = {"type": "function", "function": {"name": "forecast"}}
    first = ask(client, model, seed=5, max_tokens=50, tool_choice=forced, extra_body=extra)
    cut = first.choices[0]
    assert cut.finish_reason == "length"
    (call,) = cut.message.tool_calls
    with pytest.raises(json.JSONDecodeError):
        json.loads(call.function.arguments)
    sent: list[Any] = [
        *HELLO,
        cut.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "not JSON"},
    ]
    reply = ask(client, model, sent, tool_choice="none", max_tokens=4, extra_body=extra)
    # The model reads the call again.
    assert reply.usage.prompt_tokens > first.usage.prompt_tokens + len(call.function.arguments)


@pytest.mark.parametrize("model", ["mistral_args", "qwen_xml"])
def test_required_calls_do_not_repeat(client: openai.OpenAI, model: str) -> None:
    fields: dict[str, Any] = {"tools": TOOLS[1:], "seed": 2}
    extra = {"ark_stateful": str(uuid.uuid4())}
    choice = ask(client, model, extra_body=extra, **fields).choices[0]
    assert [call.function.name for call in choice.message.tool_calls] == ["now"]
    assert choice.finish_reason == "tool_calls"
    assert [name for name, _ in streamed(ask(client, model, stream=True, **fields))] == ["now"]
    several = ask(client, model, n=3, **fields)
    assert [len(one.message.tool_calls) for one in several.choices] == [1, 1, 1]
    result: list[Any] = [{"role": "tool", "tool_call_id": choice.message.tool_calls[0].id, "content": "noon"}]
    after = ask(client, model, result, tools=TOOLS[1:], tool_choice="none", max_tokens=4, extra_body=extra)
    # What the client has not seen, the model does not remember.
    rendered = ask(
        client,
        model,
        [*HELLO, choice.message.model_dump(exclude_none=True), *result],
        tools=TOOLS[1:],
        tool_choice="none",
        max_tokens=4,
    )
    assert abs(after.usage.prompt_tokens - rendered.usage.prompt_tokens) < 40


@pytest.mark.parametrize("model", ["mistral_args", "qwen_xml"])
def test_a_session_goes_on_with_the_result_of_a_call(client: openai.OpenAI, model: str) -> None:
    extra = {"ark_stateful": str(uuid.uuid4())}
    message = ask(client, model, seed=5, parallel_tool_calls=False, extra_body=extra).choices[0].message
    (call,) = message.tool_calls
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "21"}
    raw = client.chat.completions.with_raw_response.create(
        model=model,
        messages=[result],
        tools=TOOLS,
        tool_choice="none",
        max_tokens=8,
        extra_body=extra | {"chat_template_kwargs": {"enable_thinking": False}},
    )
    assert "; continued" in raw.headers["x-ark-session"]
    assert raw.parse().choices[0].message.tool_calls is None
