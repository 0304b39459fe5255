"""POST /messages: Anthropic's client against a real server, with a model that reasons and calls tools."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from fixture_models import only
from running import Running, serve

from ark.app import create_app

anthropic = pytest.importorskip("anthropic")

RECORDED = Path(__file__).parents[1] / "data" / "agents" / "messages" / "claude-code.json"
SECRET = "Think of a secret code word. Keep it in your reasoning and do not tell me yet."
QUESTION = "What was the code word?"
WEATHER = {
    "name": "get_weather",
    "description": "Get the weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serve(create_app(only("chat"))) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Any]:
    with anthropic.Anthropic(
        base_url=server.url, api_key="none", max_retries=0, timeout=60, _strict_response_validation=True
    ) as made:
        yield made


def say(client: Any, *messages: Any, **more: Any) -> Any:
    fields = {"model": "claude-sonnet-4-5", "max_tokens": 300, "messages": messages, "extra_body": {"temperature": 0}}
    return client.messages.create(**(fields | more))


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def text_of(reply: Any) -> str:
    return "".join(block.text for block in reply.content if block.type == "text")


def secret_word(reply: Any) -> str:
    thinking = next(block.thinking for block in reply.content if block.type == "thinking")
    found = re.search(r"word is (\w+)", thinking)
    assert found is not None, thinking
    return found[1]


@pytest.mark.parametrize("sent", ["whole", "text"])
def test_the_secret_of_its_thinking_is_known_at_the_next_turn(client: Any, sent: str) -> None:
    """With the thinking sent back, and without it, as some clients do."""
    opening = user(f"{SECRET} {sent}"[: len(SECRET)])
    first = say(client, opening)
    content = first.content if sent == "whole" else [block for block in first.content if block.type == "text"]
    second = say(client, opening, {"role": "assistant", "content": content}, user(QUESTION))
    assert secret_word(first) in text_of(second)
    assert second.usage.cache_read_input_tokens >= first.usage.input_tokens


def test_sealed_thinking_is_exact_on_a_server_that_kept_nothing(client: Any, server: Running) -> None:
    first = say(client, user(SECRET))
    history = [user(SECRET), {"role": "assistant", "content": first.content}, user(QUESTION)]
    sessions = httpx.get(f"{server.url}/v1/sessions").json()["data"]
    for session in sessions:
        httpx.delete(f"{server.url}/v1/sessions/{session['id']}")
    assert secret_word(first) in text_of(say(client, *history))


def test_a_stream_is_the_whole_message(client: Any) -> None:
    opening = user("Think about what I said. Hello! My name is Ada.")
    whole = say(client, opening)
    with client.messages.stream(
        model="gpt-4o", max_tokens=300, messages=[opening], extra_body={"temperature": 0}
    ) as stream:
        pieces = "".join(stream.text_stream)
        streamed = stream.get_final_message()
    assert pieces == text_of(streamed) == text_of(whole)
    assert [block.type for block in streamed.content] == [block.type for block in whole.content]
    assert streamed.stop_reason == whole.stop_reason == "end_turn"
    assert streamed.usage.output_tokens == whole.usage.output_tokens


@pytest.mark.parametrize("stream", [False, True])
def test_a_loop_with_a_tool(client: Any, stream: bool) -> None:
    messages: list[Any] = [user("What is the weather in Paris?")]

    def ask(**more: Any) -> Any:
        if not stream:
            return say(client, *messages, tools=[WEATHER], **more)
        fields = {"model": "gpt-4o", "max_tokens": 300, "messages": messages, "tools": [WEATHER]}
        with client.messages.stream(**fields, extra_body={"temperature": 0}, **more) as events:
            return events.get_final_message()

    first = ask()
    assert first.stop_reason == "tool_use"
    (call,) = [block for block in first.content if block.type == "tool_use"]
    assert (call.name, call.input) == ("get_weather", {"city": "Paris"})
    messages.append({"role": "assistant", "content": first.content})
    result = {"type": "tool_result", "tool_use_id": call.id, "content": '{"temperature": 21, "unit": "celsius"}'}
    messages.append(user([result]))
    second = ask()
    assert "21" in text_of(second)
    turn = first.usage.input_tokens + first.usage.cache_read_input_tokens + first.usage.output_tokens
    assert second.usage.cache_read_input_tokens >= turn - 2


@pytest.mark.parametrize(
    ("choice", "reason"), [({"type": "tool", "name": "get_weather"}, "tool_use"), ({"type": "none"}, "end_turn")]
)
def test_a_choice_of_tools(client: Any, choice: dict[str, Any], reason: str) -> None:
    reply = say(client, user("What is the weather in Paris?"), tools=[WEATHER], tool_choice=choice)
    assert reply.stop_reason == reason


def test_a_count_is_what_the_message_takes(client: Any) -> None:
    fields: Any = {"messages": [user("Hello!")], "system": "Be brief.", "tools": [WEATHER]}
    counted = client.messages.count_tokens(model="gpt-4o", **fields)
    usage = client.messages.create(model="gpt-4o", max_tokens=1, **fields).usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_errors_are_the_clients_own(client: Any) -> None:
    with pytest.raises(anthropic.NotFoundError):
        say(client, user("x"), model="nobody's")
    with pytest.raises(anthropic.BadRequestError) as raised:
        say(client, user([{"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/a.png"}}]))
    assert raised.value.body["error"]["type"] == "invalid_request_error"


def test_claude_code_reads_only_what_is_new(server: Running) -> None:
    """Its recorded requests, with ARK's own replies in the places of those that were recorded. The first line of its
    system prompt is another each time, and `cache_control` moves."""
    requests = json.loads(RECORDED.read_text())
    lines = {request["body"]["system"][0]["text"] for request in requests}
    assert len(lines) == 3
    history: list[Any] = list(requests[0]["body"]["messages"])
    replies = []
    for number, request in enumerate(requests):
        fields = {"stream": False, "temperature": 0, "max_tokens": 200, "messages": history}
        body = request["body"] | fields | {"tool_choice": {"type": "any" if number == 0 else "none"}}
        reply = httpx.post(f"{server.url}{request['path']}", json=body, headers=request["headers"], timeout=60)
        assert reply.status_code == 200, reply.text
        replies.append(reply)
        said = reply.json()["content"]
        for block in history[-1]["content"]:
            block.pop("cache_control", None)
        history.append({"role": "assistant", "content": said})
        results = [
            {"type": "tool_result", "tool_use_id": block["id"], "content": "done", "is_error": False}
            for block in said
            if block["type"] == "tool_use"
        ]
        asked = [{"type": "text", "text": "And what does it do?", "cache_control": {"type": "ephemeral"}}]
        history.append(user(results or asked))
    for before, after in pairwise(replies):
        session, how, found = after.headers["x-ark-session"].split("; ")
        assert (session, how, found) == (before.headers["x-ark-session"].split("; ")[0], "continued", "name")
        used = before.json()["usage"]
        turn = used["input_tokens"] + used["cache_read_input_tokens"] + used["output_tokens"]
        assert after.json()["usage"]["cache_read_input_tokens"] >= 0.99 * turn
