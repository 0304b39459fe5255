"""A whole loop with tools with OpenAI's client: alone and in a session."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

pytest.importorskip("torch")

from fixture_models import only
from running import serve

from ark.app import create_app

QUESTION: Any = {"role": "user", "content": "What is the weather in Paris?"}
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather in a city.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string", "description": "The city"}},
                "required": ["city"],
            },
        },
    }
]


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with (
        serve(create_app(only("chat"))) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as made,
    ):
        yield made


@pytest.mark.parametrize("session", [None, "00000000-0000-4000-8000-0000000000aa"])
@pytest.mark.parametrize("older", [False, True])
def test_a_call_a_result_and_an_answer(client: openai.OpenAI, session: str | None, older: bool) -> None:
    """In a session only the tool's result is sent, and the model remembers what it called for."""
    name = session and session[:-1] + str(int(older))
    fields: dict[str, Any] = {"model": "gpt-4o", "extra_body": {"ark_stateful": name or False}}
    fields |= {"functions": [TOOLS[0]["function"]]} if older else {"tools": TOOLS}
    choice = client.chat.completions.create(messages=[QUESTION], **fields).choices[0]
    message = choice.message
    if older:
        assert choice.finish_reason == "function_call"
        assert message.function_call is not None
        function: Any = message.function_call
        result: Any = {"role": "function", "name": "get_weather"}
    else:
        assert choice.finish_reason == "tool_calls"
        (call,) = message.tool_calls or ()
        assert call.type == "function"
        function = call.function
        result = {"role": "tool", "tool_call_id": call.id}
    assert (function.name, json.loads(function.arguments)) == ("get_weather", {"city": "Paris"})
    result["content"] = '{"temperature": 21, "condition": "sunny"}'
    raw = client.chat.completions.with_raw_response.create(
        messages=[result] if session else [QUESTION, message, result], **fields
    )
    answer = raw.parse().choices[0].message.content or ""
    assert "21" in answer
    assert "sunny" in answer
    assert ("; continued" in raw.headers["x-ark-session"]) == (session is not None)
