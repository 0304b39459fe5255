"""POST /messages, with a backend that repeats the last user message."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgi_client import ECHO, Client, Response, backend_of, running

pytestmark = pytest.mark.anyio

FAULTY = ECHO | {"backend": "faulty_backend:Faulty", "engine": {"all_parameters": True, "reasoning": True}}
USER = {"role": "user", "content": "hello"}
TOOL = {"name": "look", "description": "Look.", "input_schema": {"type": "object"}}
USE = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "sky"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "blue"}]}


async def send(
    client: Client, *messages: Any, route: str = "/v1/messages", headers: Any = (), **fields: Any
) -> Response:
    body = {"model": "echo", "max_tokens": 50, "messages": messages or [USER], **fields}
    return await client.request("POST", route, json=body, headers=headers)


def error(reply: Response) -> dict[str, Any]:
    """The error object, which must have exactly Anthropic's shape."""
    body = reply.json()
    assert (set(body), set(body["error"]), body["type"]) == ({"type", "error"}, {"type", "message"}, "error"), body
    return body["error"]


async def prompt_of(client: Client, *messages: Any, **fields: Any) -> str:
    """What the model read."""
    reply = await send(client, *messages, **fields)
    assert reply.status == 200, reply.text
    return bytes(backend_of(client).jobs[-1].prompt).decode()


async def test_a_whole_message() -> None:
    async with running() as client:
        reply = await send(client)
    body = reply.json()
    assert body.pop("id").startswith("msg_")
    assert body == {
        "model": "echo",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": len("user: hello\nassistant: "),
            "cache_read_input_tokens": 0,
            "output_tokens": 6,
            "cache_creation_input_tokens": 0,
        },
        "type": "message",
        "role": "assistant",
    }
    assert reply.headers["x-ark-session"].endswith("; created")


async def test_why_it_ended() -> None:
    async with running() as client:
        cut = (await send(client, max_tokens=2)).json()
        stopped = (await send(client, {"role": "user", "content": "one STOP two"}, stop_sequences=["x", "STOP"])).json()
    assert (cut["stop_reason"], cut["content"][0]["text"]) == ("max_tokens", "he")
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", "STOP")
    assert stopped["content"] == [{"type": "text", "text": "one "}]


async def test_events() -> None:
    async with running() as client:
        reply = await send(client, stream=True)
    events = [json.loads(event.data) for event in reply.events]
    assert [event["type"] for event in events] == [event.type for event in reply.events]
    kinds = [event["type"] for event in events if event["type"] != "content_block_delta"]
    assert kinds == ["message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop"]
    assert events[0]["message"]["content"] == []
    assert events[0]["message"]["stop_reason"] is None
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert "".join(delta["text"] for delta in deltas) == "hello"
    assert events[-2]["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == 6


async def test_what_the_model_reads() -> None:
    async with running(models=[FAULTY]) as client:
        text = await prompt_of(
            client,
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "c", "cache_control": {"type": "ephemeral"}}]},
            USER,
            system=[
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=1.2.3.4f; cch=0a1b2;"},
                {"type": "text", "text": "Be brief."},
                {"type": "text", "text": "Be right."},
            ],
        )
    assert text == "system: Be brief.\nBe right.\nuser: a\nb\nassistant: c\nuser: hello\nassistant: "


async def test_results_of_tools_stand_before_the_text_behind_them() -> None:
    async with running(models=[FAULTY | {"tool_format": "hermes"}]) as client:
        text = await prompt_of(
            client,
            USER,
            {"role": "assistant", "content": [USE]},
            {"role": "user", "content": [RESULT, {"type": "text", "text": "and now?"}]},
            tools=[TOOL],
        )
    assert text.rstrip().endswith("user: and now?\nassistant:")
    assert 0 < text.find("blue") < text.index("and now?")


async def test_tools_that_anthropic_runs_are_named_and_left_out() -> None:
    async with running(models=[FAULTY | {"tool_format": "hermes"}]) as client:
        tools = [TOOL, {"type": "web_search_20250305", "name": "web_search"}]
        reply = await send(client, tools=tools)
    assert reply.status == 200
    assert reply.headers["x-ark-ignored"] == "web_search_20250305"


async def test_a_token_count() -> None:
    async with running() as client:
        counted = (await send(client, route="/v1/messages/count_tokens", system="Be brief.")).json()
        used = (await send(client, system="Be brief.")).json()["usage"]
    assert counted == {"input_tokens": used["input_tokens"]}


@pytest.mark.parametrize(
    ("fields", "kind", "said"),
    [
        ({"max_tokens": None}, "invalid_request_error", "max_tokens"),
        ({"max_tokens": 0}, "invalid_request_error", "max_tokens"),
        ({"messages": []}, "invalid_request_error", "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "invalid_request_error", "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]},
            "invalid_request_error",
            "image",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "invalid_request_error", "content[0].text"),
        ({"messages": [{"role": "user", "content": [RESULT]}]}, "invalid_request_error", "messages[0].content[0]"),
        ({"tools": [{"input_schema": {}}]}, "invalid_request_error", "tools[0].name"),
        ({"tools": [TOOL]}, "invalid_request_error", "does not support 'tools'"),
        ({"tool_choice": {"type": "any"}}, "invalid_request_error", "tool_choice"),
        ({"temperature": 5}, "invalid_request_error", "temperature"),
        ({"model": "no"}, "not_found_error", "does not exist"),
    ],
)
async def test_what_is_wrong_is_said_as_anthropic_does(fields: dict[str, Any], kind: str, said: str) -> None:
    async with running() as client:
        reply = await client.request(
            "POST", "/v1/messages", json={"model": "echo", "max_tokens": 9, "messages": [USER]} | fields
        )
        assert reply.status == (404 if kind == "not_found_error" else 400)
        assert error(reply)["type"] == kind
        assert said in error(reply)["message"]
        assert (await send(client)).status == 200


@pytest.mark.parametrize("signature", ["x", "AAAA", "not base64 \u00e9", "A" * 100])
async def test_a_signature_of_somebody_elses_is_refused(signature: str) -> None:
    thinking = {"type": "thinking", "thinking": "hm", "signature": signature}
    async with running(models=[FAULTY]) as client:
        reply = await send(
            client, USER, {"role": "assistant", "content": [thinking, {"type": "text", "text": "a"}]}, USER
        )
        assert (reply.status, error(reply)["type"]) == (400, "invalid_request_error")
        assert "messages[1].content[0].signature" in error(reply)["message"]
        # One of a stream that ended before its signature came.
        thinking["signature"] = ""
        assert (await send(client, USER, {"role": "assistant", "content": [thinking]}, USER)).status == 200


async def test_keys_come_in_either_header() -> None:
    digest = "4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a"  # of "4"
    async with running(keys=[{"name": "own", "sha256": digest}]) as client:
        for headers in ([("x-api-key", "4")], [("x-api-key", "Bearer 4")], [("authorization", "Bearer 4")]):
            assert (await send(client, headers=headers)).status == 200
        for headers in ([], [("x-api-key", "5")], [("x-api-key", "")]):
            reply = await send(client, headers=headers)
            assert (reply.status, error(reply)["type"]) == (401, "authentication_error")
        # What is sent as Authorization comes first.
        assert (await send(client, headers=[("authorization", "Bearer 5"), ("x-api-key", "4")])).status == 401


@pytest.mark.parametrize("when", ["admission", "middle"])
async def test_an_engine_that_fails(when: str) -> None:
    model = FAULTY | {"engine": {"fault": "engine", "when": when}}
    async with running(models=[model]) as client:
        whole, stream = await send(client), await send(client, stream=True)
    assert (whole.status, error(whole)["type"]) == (503, "overloaded_error")
    if when == "middle":
        assert stream.events[-1].type == "error"
        assert json.loads(stream.events[-1].data)["error"]["type"] == "overloaded_error"
    else:
        assert stream.status == 503
