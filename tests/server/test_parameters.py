"""Tools, formats, several replies and log-probabilities: OpenAI's client against a real server with a random model.

A random model says nothing of meaning, so what it is forced to say is what is looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

pytest.importorskip("torch")

from random_replies import HELLO, SCHEMA, THINK, TOOLS, ask, families, letter
from running import Running, serve
from sse import read_events
from tiny_model import HERMES, TAGS, save_tiny_llama

from ark.app import create_app
from ark.config import Config


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path = tmp_path_factory.mktemp("model")
    save_tiny_llama(path, hidden=32, layers=1, template=HERMES, tags=TAGS)
    plain = tmp_path_factory.mktemp("plain")
    save_tiny_llama(plain, hidden=32, layers=1)
    for directory in (path, plain):
        # From their whole distribution: filters would leave a random model few letters to choose from.
        (directory / "generation_config.json").write_text('{"temperature": 1.0}')
    with serve(create_app(Config(models=families(path, plain)))) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    url = f"{server.url}/v1"
    with openai.OpenAI(
        base_url=url, api_key="none", max_retries=0, timeout=60, _strict_response_validation=True
    ) as made:
        yield made


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "count"}}])
def test_a_forced_call(client: openai.OpenAI, choice: Any) -> None:
    for seed in range(5):
        reply = ask(client, tools=TOOLS, tool_choice=choice, seed=seed, parallel_tool_calls=False).choices[0]
        (call,) = reply.message.tool_calls
        assert reply.finish_reason == "tool_calls"
        assert reply.message.content is None
        assert call.id.startswith("call_")
        arguments = json.loads(call.function.arguments)
        if call.function.name == "count":
            assert 0 <= arguments["a"] <= 99
        else:
            assert (choice, call.function.name) == ("required", "wait")


def test_a_streamed_call(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"tools": TOOLS[:1], "tool_choice": "required", "parallel_tool_calls": False}
    whole = ask(client, **fields).choices[0].message.tool_calls[0].function
    chunks = list(ask(client, stream=True, **fields))
    deltas = [delta for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or ()]
    first, *rest = deltas
    assert (first.index, first.type, first.function.name, first.function.arguments) == (0, "function", "count", "")
    assert first.id
    assert all(delta.id is None and delta.function.name is None for delta in rest)
    assert "".join(delta.function.arguments for delta in rest) == whole.arguments
    assert len(rest) > 1
    assert not any(chunk.choices[0].delta.content for chunk in chunks)
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["tool_calls"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["llama", "mistral", "mistral_args"])
def test_other_families_write_calls_in_their_own_way(client: openai.OpenAI, model: str, stream: bool) -> None:
    fields: dict[str, Any] = {"model": model, "tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    if not stream:
        message = ask(client, **fields).choices[0].message
        (call,) = message.tool_calls
        number, name, arguments, content = call.id, call.function.name, call.function.arguments, message.content
    else:
        chunks = [chunk.choices[0].delta for chunk in ask(client, stream=True, **fields)]
        first, *rest = [call for delta in chunks for call in delta.tool_calls or ()]
        number, name, content = first.id, first.function.name, "".join(delta.content or "" for delta in chunks)
        arguments = "".join(call.function.arguments for call in rest)
    assert name in ("count", "wait")
    json.loads(arguments)
    assert not content
    # Mistral's templates refuse other ids.
    assert number.startswith("call_") if model == "llama" else len(number) == 9


def test_a_stop_string_ends_a_schema_too(client: openai.OpenAI) -> None:
    choice = ask(client, response_format=SCHEMA, stop=":").choices[0]
    assert choice.finish_reason == "stop"
    assert choice.message.content.rstrip().endswith('"a"')


def test_a_complete_schema_ends_before_min_tokens(client: openai.OpenAI) -> None:
    """Nothing else is left to it; until then it may not."""
    for temperature in (0.0, 1.5):
        reply = ask(client, response_format=SCHEMA, temperature=temperature, n=2, extra_body={"min_tokens": 90})
        for choice in reply.choices:
            assert choice.finish_reason == "stop"
            assert set(json.loads(choice.message.content)) == {"a"}


def test_a_bias_for_many_tokens(client: openai.OpenAI) -> None:
    said = ask(client, logit_bias={str(i): -100 for i in range(94) if i != letter("x")}, max_tokens=20)
    assert set(said.choices[0].message.content) <= {"x", " "}


def test_the_clients_own_accumulation_of_a_stream(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="tiny",
        messages=HELLO,
        tools=TOOLS[:1],
        tool_choice="required",
        parallel_tool_calls=False,
        reasoning_effort="none",
        max_tokens=200,
        seed=1,
    ) as stream:
        for _ in stream:
            pass
        (call,) = stream.get_final_completion().choices[0].message.tool_calls or ()
    assert call.function.name == "count"


def test_the_older_form_of_tools(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"functions": [TOOLS[0]["function"]], "function_call": {"name": "count"}}
    reply = ask(client, **fields).choices[0]
    assert reply.finish_reason == "function_call"
    assert reply.message.tool_calls is None
    assert reply.message.function_call.name == "count"
    json.loads(reply.message.function_call.arguments)
    chunks = [chunk.choices[0] for chunk in ask(client, stream=True, **fields)]
    deltas = [chunk.delta.function_call for chunk in chunks if chunk.delta.function_call is not None]
    assert deltas[0].name == "count"
    assert "".join(delta.arguments for delta in deltas) == reply.message.function_call.arguments
    assert chunks[-1].finish_reason == "function_call"


@pytest.mark.parametrize("stateful", ["00000000-0000-4000-8000-00000000000a", False])
def test_a_tool_loop(client: openai.OpenAI, stateful: Any) -> None:
    """In a session only the tool's result is sent back."""
    extra = {"ark_stateful": stateful}
    reply = ask(client, tools=TOOLS, tool_choice="required", parallel_tool_calls=False, extra_body=extra)
    message = reply.choices[0].message
    result: dict[str, Any] = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "42"}
    messages = [result] if stateful else [*HELLO, message, result]
    raw = client.chat.completions.with_raw_response.create(
        model="tiny", messages=messages, tools=TOOLS, tool_choice="none", max_tokens=5, extra_body=extra
    )
    after = raw.parse()
    assert after.choices[0].message.tool_calls is None
    if stateful:
        assert "continued" in raw.headers["x-ark-session"]
        assert after.usage is not None
        assert reply.usage is not None
        assert after.usage.prompt_tokens > len("hello") + reply.usage.completion_tokens


def test_tools_stay_in_the_prompt_when_none_is_to_be_called(client: openai.OpenAI) -> None:
    """Without them the whole conversation would have to be read again."""
    extra = {"ark_stateful": "00000000-0000-4000-8000-00000000000b"}
    first = ask(client, tools=TOOLS, max_tokens=5, extra_body=extra)
    after = ask(
        client, tools=TOOLS, tool_choice="none", extra_body=extra, max_tokens=60, logit_bias={f"{THINK + 2}": 100}
    )
    assert first.usage.prompt_tokens > len("hello") + 100, "the tools are in the prompt"
    cached = after.usage.prompt_tokens_details.cached_tokens
    assert cached >= first.usage.total_tokens - 1
    choice = after.choices[0]
    assert (choice.message.tool_calls, choice.finish_reason) == (None, "length")
    assert "<tool_call>" not in choice.message.content, "a bias cannot bring it about"


@pytest.mark.parametrize("stateful", ["00000000-0000-4000-8000-00000000000c", False])
def test_a_result_without_a_call_is_refused(client: openai.OpenAI, stateful: Any) -> None:
    extra = {"ark_stateful": stateful}
    fields: dict[str, Any] = {"tools": TOOLS, "parallel_tool_calls": False, "extra_body": extra}
    message = ask(client, tool_choice="required", **fields).choices[0].message
    before = [] if stateful else [*HELLO, message]
    wrong = {"role": "tool", "tool_call_id": "call_other", "content": "42"}
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, messages=[*before, wrong], **fields)
    assert caught.value.param == f"messages[{len(before)}].tool_call_id"
    right = wrong | {"tool_call_id": message.tool_calls[0].id}
    assert ask(client, messages=[*before, right], max_tokens=3, **fields).usage.completion_tokens


@pytest.mark.parametrize("fields", [{"response_format": SCHEMA}, {"tools": TOOLS, "tool_choice": "required"}])
def test_a_complete_form_ends_although_the_end_is_to_be_ignored(client: openai.OpenAI, fields: dict[str, Any]) -> None:
    extra = {"ignore_eos": True}
    choice = ask(client, **fields, parallel_tool_calls=False, max_tokens=400, extra_body=extra).choices[0]
    assert choice.finish_reason in ("stop", "tool_calls")


def test_each_reply_of_a_stream_ends_when_it_ends(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"n": 4, "stop": "e", "max_tokens": 60}
    choices = [chunk.choices[0] for chunk in ask(client, stream=True, **fields)]
    last = {choice.index: place for place, choice in enumerate(choices) if choice.finish_reason}
    assert sorted(last) == [0, 1, 2, 3]
    assert len([choice for choice in choices if choice.finish_reason]) == 4
    for place, choice in enumerate(choices):
        assert place <= last[choice.index], "nothing comes behind a finish reason"
    assert min(last.values()) < len(choices) - 10, "the first does not wait for the last"
    whole = ask(client, **fields)
    texts = ["".join(one.delta.content or "" for one in choices if one.index == index) for index in range(4)]
    assert texts == [choice.message.content for choice in whole.choices]
    assert [choices[last[i]].finish_reason for i in range(4)] == [one.finish_reason for one in whole.choices]


def test_a_session_keeps_the_first_of_several_replies(client: openai.OpenAI) -> None:
    extra = {"ark_stateful": "00000000-0000-4000-8000-00000000000b"}
    replies = ask(client, n=3, max_tokens=10, extra_body=extra)
    assert len({choice.message.content for choice in replies.choices}) == 3
    shown = [*HELLO, {"role": "assistant", "content": replies.choices[0].message.content}]
    more: list[Any] = [*shown, {"role": "user", "content": "more"}]
    raw = client.chat.completions.with_raw_response.create(model="tiny", messages=more, max_tokens=3, extra_body=extra)
    assert "; continued" in raw.headers["x-ark-session"]
    assert int(raw.headers["x-ark-cached-tokens"]) > 10


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_schema_with_everything_beside_it(client: openai.OpenAI, temperature: float) -> None:
    """A stream, several replies, log-probabilities and a stop string that does not come."""
    fields: dict[str, Any] = {"response_format": SCHEMA, "n": 3, "logprobs": True, "top_logprobs": 2, "stop": ["zz"]}
    whole = ask(client, temperature=temperature, **fields)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    for choice in whole.choices:
        assert choice.finish_reason == "stop"
        assert set(json.loads(choice.message.content)) == {"a"}
        data = bytes(byte for token in choice.logprobs.content for byte in token.bytes)
        assert data.decode() == choice.message.content
        assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content)
    texts, spoken = ["", "", ""], ["", "", ""]
    options = {"include_usage": True}
    for chunk in ask(client, temperature=temperature, stream=True, stream_options=options, **fields):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            spoken[choice.index] += "".join(
                token.token for token in (choice.logprobs.content if choice.logprobs else ())
            )
    assert texts == [choice.message.content for choice in whole.choices]
    assert spoken == texts
    assert chunk.usage.completion_tokens == whole.usage.completion_tokens


def test_json_object(client: openai.OpenAI) -> None:
    # Without the bias a random model hardly ever ends a text.
    bias = {str(letter('"')): 3, str(letter("}")): 3}
    reply = ask(client, response_format={"type": "json_object"}, logit_bias=bias, max_tokens=400).choices[0]
    assert reply.finish_reason == "stop"
    assert isinstance(json.loads(reply.message.content), dict)


def test_reasoning_is_free_of_the_schema(client: openai.OpenAI) -> None:
    # It begins to think, and stops thinking some time.
    bias = {str(THINK): 8, str(THINK + 1): 8}
    reply = ask(client, response_format=SCHEMA, logit_bias=bias, reasoning_effort="high")
    (choice,) = reply.choices
    assert choice.finish_reason == "stop"
    assert set(json.loads(choice.message.content)) == {"a"}
    assert choice.message.model_extra["reasoning_content"]
    assert reply.usage.completion_tokens_details.reasoning_tokens > 1
    off = ask(client, response_format=SCHEMA, logit_bias=bias, reasoning_effort="none").choices[0]
    assert set(json.loads(off.message.content)) == {"a"}
    assert "reasoning_content" not in off.message.model_extra
    extra = {"chat_template_kwargs": {"enable_thinking": False}}
    kwargs = ask(client, response_format=SCHEMA, logit_bias=bias, reasoning_effort="high", extra_body=extra)
    assert kwargs.choices[0].message == off.message


def test_reasoning_has_no_log_probabilities(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"response_format": SCHEMA, "logit_bias": {str(THINK): 8, str(THINK + 1): 8}}
    choice = ask(client, logprobs=True, reasoning_effort="high", **fields).choices[0]
    assert choice.message.model_extra["reasoning_content"]
    assert "".join(token.token for token in choice.logprobs.content) == choice.message.content


def test_a_seed_gives_the_same_reply_whatever_runs_beside_it(client: openai.OpenAI) -> None:
    alone = ask(client, seed=7).choices[0].message.content
    beside = ask(client, seed=7, n=6).choices
    assert beside[0].message.content == alone
    assert len({choice.message.content for choice in beside}) == 6
    assert ask(client, seed=8).choices[0].message.content != alone


def test_a_banned_token_is_not_said(client: openai.OpenAI) -> None:
    text = ask(client, max_tokens=200).choices[0].message.content
    banned = max(set(text) & set("ABCDEFGHIJKLM0123456789"), key=text.count)
    again = ask(client, max_tokens=200, logit_bias={str(letter(banned)): -100}).choices[0].message.content
    assert banned not in again


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"logit_bias": {"100000": 1}}, "logit_bias"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"min_tokens": 11, "max_tokens": 10}, "min_tokens"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {}}}}},
        "response_format.json_schema.schema",
    ),
    (
        {
            "tools": [
                TOOLS[1],
                {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"not": {}}}},
            ]
        },
        "tools[1].function.parameters",
    ),
    ({"tools": [TOOLS[0], TOOLS[0]]}, "tools[1].function.name"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice.function.name"),
    ({"extra_body": {"chat_template_kwargs": {"messages": []}}}, "chat_template_kwargs"),
    ({"extra_body": {"chat_template_kwargs": {"self": 1}}}, "chat_template_kwargs"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("fields", "param"), REFUSED, ids=[param for _, param in REFUSED])
def test_what_cannot_be_honoured_is_refused(
    client: openai.OpenAI, fields: dict[str, Any], param: str, stream: bool
) -> None:
    fields = {name: value for name, value in fields.items() if name != "min_tokens"} | (
        {"extra_body": {"min_tokens": fields["min_tokens"]}} if "min_tokens" in fields else {}
    )
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, stream=stream, **fields)
    assert caught.value.param == param


@pytest.mark.parametrize("depth", [60, 200, 450, 2000])
@pytest.mark.parametrize("tool", [False, True])
def test_a_deep_schema_is_no_fault_of_the_server(server: Running, depth: int, tool: bool) -> None:
    schema = '{"type":"object","properties":{"a":' * depth + "{}" + "}}" * depth
    body = f'"type":"json_schema","json_schema":{{"name":"deep","schema":{schema}}}'
    fields = f'"response_format":{{{body}}}'
    if tool:
        fields = f'"tools":[{{"type":"function","function":{{"name":"f","strict":true,"parameters":{schema}}}}}]'
    sent = f'{{"model":"tiny","messages":[{{"role":"user","content":"hi"}}],"max_tokens":3,{fields}}}'
    reply = httpx.post(
        f"{server.url}/v1/chat/completions", content=sent, headers={"content-type": "application/json"}, timeout=60
    )
    assert reply.status_code in (200, 400), reply.text
    assert reply.status_code == 400 or depth < 100


def test_a_model_whose_template_knows_no_tools_refuses_them(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, model="plain", tools=TOOLS)
    assert (caught.value.param, caught.value.code) == ("tools", "unsupported_parameter")


@pytest.mark.parametrize("effort", ["none", "low", "max"])
def test_an_effort_is_nothing_to_a_model_that_does_not_think(client: openai.OpenAI, effort: Any) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model="plain", messages=HELLO, seed=1, max_tokens=9, reasoning_effort=effort
    )
    assert "x-ark-ignored" not in raw.headers
    usual = client.chat.completions.create(model="plain", messages=HELLO, seed=1, max_tokens=9)
    assert raw.parse().choices[0].message.content == usual.choices[0].message.content
    with pytest.raises(openai.BadRequestError):
        ask(client, model="document", reasoning_effort="low")


def test_models_list_what_they_honour(client: openai.OpenAI) -> None:
    listed = {model.id: set(model.model_extra["ark"]["parameters"]) for model in client.models.list()}  # type: ignore[index]
    assert {"tools", "response_format", "reasoning_effort", "logprobs", "n"} <= listed["tiny"]
    assert listed["tiny"] - listed["plain"] == {
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "reasoning_effort",
    }
    assert listed["document"] == {"temperature", "max_tokens", "max_completion_tokens", "stream", "stream_options"}


def test_a_simplified_stream_has_the_text_of_a_call(server: Running) -> None:
    """It has no other place for it."""
    body = {"model": "tiny", "messages": HELLO, "stream": True, "ark_simplified": True, "tools": TOOLS[:1]}
    body |= {"tool_choice": "required", "seed": 1, "parallel_tool_calls": False, "reasoning_effort": "none"}
    text = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60).text
    assert '<tool_call>{"name":"count"' in "".join(event.data for event in read_events(text)).replace(" ", "")
    refused = httpx.post(f"{server.url}/v1/chat/completions", json=body | {"n": 2}, timeout=60)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "n")
