"""The items of POST /responses: messages, calls, tools and reasoning, in both directions."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgi_client import Client, backend_of, running
from response_referees import check_body, check_stream
from responses_api import AGENTS, CALL, CUSTOM, FUNCTION, KEYS, RUN, TOOLED, post, prompt_of

pytestmark = pytest.mark.anyio


RECORDED = {path.stem: json.loads(path.read_text()) for path in AGENTS.glob("*.json")}


REQUESTS = {name: sent["body"] for name, sent in sorted(RECORDED.items()) if sent["path"].endswith("/responses")}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running(models=[TOOLED]) as made:
        yield made


@pytest.mark.parametrize(
    ("items", "prompt"),
    [
        ("hi", "user: hi\n"),
        ([{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}], "user: hi\n"),
        ([{"role": "developer", "content": "be"}, {"role": "user", "content": "hi"}], "system: be\nuser: hi\n"),
        (
            [
                {"role": "user", "content": "a"},
                {
                    "type": "reasoning",
                    "id": "rs_1",
                    "summary": [],
                    "content": [{"type": "reasoning_text", "text": "t"}],
                },
                {"role": "assistant", "content": [{"type": "output_text", "text": "b", "annotations": []}]},
                {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"},
                {"type": "custom_tool_call", "call_id": "2", "name": "run", "input": "x"},
                {"type": "function_call_output", "call_id": "1", "output": "one"},
                {"type": "custom_tool_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "two"}]},
            ],
            "user: a\nassistant: b\ntool: one\ntool: two\n",
        ),
        (
            [
                {"role": "user", "content": "a"},
                {"type": "web_search_call", "id": "ws_1"},
                {"role": "user", "content": "b"},
            ],
            "user: a\nuser: b\n",
        ),
    ],
)
async def test_items_are_read_as_messages(client: Client, items: Any, prompt: str) -> None:
    assert (await post(client, items)).status == 200
    assert prompt_of(client) == prompt + "assistant: "


async def test_items_of_one_reply_are_one_message(client: Client) -> None:
    """So that the conversation is the one that was answered."""
    first = (await post(client, f"a{CALL}", tools=[FUNCTION])).json()
    assert [item["type"] for item in first["output"]] == ["message", "function_call"]
    history = [{"role": "user", "content": f"a{CALL}"}, *first["output"]]
    result = {"type": "function_call_output", "call_id": first["output"][1]["call_id"], "output": "sunny"}
    cookie = [("cookie", "ark_session_id=" + (await client.get("/v1/sessions")).json()["data"][0]["id"])]
    body = {"model": "echo", "input": [*history, result], "tools": [FUNCTION]}
    reply = await client.request("POST", "/v1/responses", json=body, headers=cookie)
    # The engine of these tests retains nothing.
    assert reply.headers["x-ark-session"].endswith("; rebuilt")
    assert prompt_of(client).count(CALL) == 2


async def test_calls_and_what_they_stream(client: Client) -> None:
    tools = [FUNCTION, CUSTOM]
    events = check_stream((await post(client, f"ok {CALL}\n{RUN}", tools=tools, stream=True)).text)
    message, call, custom = events[-1]["response"]["output"]
    assert message["content"][0]["text"] == "ok"
    assert (call["name"], json.loads(call["arguments"])) == ("look", {"place": "Paris"})
    assert (custom["type"], custom["name"], custom["input"]) == ("custom_tool_call", "run", 'print("é")\n')
    kinds = {event["type"] for event in events}
    assert {"response.function_call_arguments.done", "response.custom_tool_call_input.delta"} <= kinds
    assert (await post(client, f"ok {CALL}\n{RUN}", tools=tools)).json()["output"][2]["input"] == 'print("é")\n'


async def test_tools_of_a_namespace_are_called_by_it(client: Client) -> None:
    space = {"type": "namespace", "name": "maps", "description": "", "tools": [FUNCTION]}
    body = (await post(client, CALL.replace("look", "maps.look"), tools=[space])).json()
    assert (body["output"][0]["name"], body["output"][0]["namespace"]) == ("look", "maps")
    back = [{"role": "user", "content": "a"}, *body["output"]]
    await post(client, back, tools=[space])
    assert "maps.look" in backend_of(client).jobs[-1].grammar.lark


async def test_hosted_tools_are_left_out_and_named(client: Client) -> None:
    tools = [FUNCTION, {"type": "web_search", "external_web_access": False}, {"type": "mcp", "server_label": "x"}]
    reply = await post(client, tools=tools, tool_choice="auto")
    assert reply.headers["x-ark-ignored"] == "web_search, mcp"
    assert [tool["name"] for tool in reply.json()["tools"]] == ["look"]
    alone = await post(client, tools=tools[1:], tool_choice="auto")
    assert (alone.status, alone.json()["tools"]) == (200, [])
    for choice in ({"type": "web_search"}, {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}):
        refused = await post(client, tools=tools, tool_choice=choice)
        assert (refused.status, refused.error["code"]) == (400, "unsupported_tool")


@pytest.mark.parametrize(
    "choice",
    [
        *("none", "auto", "required", {"type": "function", "name": "look"}, {"type": "custom", "name": "run"}),
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "look"}]},
    ],
)
async def test_every_choice_of_tools(client: Client, choice: Any) -> None:
    body = (await post(client, tools=[FUNCTION, CUSTOM], tool_choice=choice, parallel_tool_calls=False)).json()
    assert (body["tool_choice"], body["parallel_tool_calls"]) == (choice, False)


async def test_reasoning_is_an_item_or_a_summary() -> None:
    model = TOOLED | {"engine": {"all_parameters": True, "reasoning": True}}
    async with running(models=[model]) as client:
        plain = check_stream((await post(client, "<think>why</think>\n\nso", stream=True)).text)
        shown = check_stream(
            (await post(client, "<think>why</think>\n\nso", stream=True, reasoning={"summary": "auto"})).text
        )
    thought, answer = plain[-1]["response"]["output"]
    assert (thought["summary"], thought["content"][0]["text"], answer["content"][0]["text"]) == ([], "why", "so")
    assert shown[-1]["response"]["output"][0]["summary"] == [{"type": "summary_text", "text": "why"}]
    assert any(event["type"] == "response.reasoning_summary_text.delta" for event in shown)
    assert plain[-1]["response"]["usage"]["output_tokens_details"]["reasoning_tokens"] > 0


async def test_sealed_reasoning_is_read_for_its_own_key_only() -> None:
    model = TOOLED | {"engine": {"all_parameters": True, "reasoning": True}}
    said = "<think>why</think>\n\nso"
    include = ["reasoning.encrypted_content"]
    secret = "0123456789abcdef" * 2
    async with running(models=[model], keys=KEYS, responses={"encryption_key": secret}) as client:
        thought, answer = (await post(client, said, key="ann", include=include, store=False)).json()["output"]
        sealed = thought["encrypted_content"]
        events = check_stream((await post(client, said, key="ann", include=include, stream=True)).text)
        again = next(event["item"] for event in events if event["type"] == "response.output_item.done")
    assert "why" not in sealed
    assert again["encrypted_content"] != sealed
    back = [{"role": "user", "content": "a"}, {"type": "reasoning", "summary": [], "encrypted_content": sealed}, answer]
    async with running(models=[model], keys=KEYS, responses={"encryption_key": secret}) as client:
        assert (await post(client, [*back, {"role": "user", "content": "b"}], key="ann")).status == 200
        # The tokens stand where they stood, though this template drops earlier reasoning.
        assert prompt_of(client) == f"user: a\nassistant: {said}\nuser: b\nassistant: "
        for key, text in (("bob", sealed), ("ann", sealed[:-4]), ("ann", "B" + sealed[1:]), ("ann", "é"), ("ann", "")):
            back[1]["encrypted_content"] = text
            refused = await post(client, back, key=key)
            assert (refused.status, refused.error["code"]) == (400, "invalid_encrypted_content")
            assert refused.error["param"] == "input[1].encrypted_content"
    async with running(models=[model], keys=KEYS) as client:
        back[1]["encrypted_content"] = sealed
        assert (await post(client, back, key="ann")).status == 400


async def test_text_cannot_write_tokens(client: Client) -> None:
    """As sealed reasoning does."""
    written = "ark3c9b5e20d7f64a18ids41000000."
    await post(client, [{"role": "user", "content": written}, {"role": "assistant", "content": written}])
    assert prompt_of(client) == f"user: {written}\nassistant: {written}\nassistant: "


@pytest.mark.parametrize("name", REQUESTS)
async def test_what_agents_send_is_taken_as_it_is(name: str) -> None:
    """Requests of Codex, the Agents SDKs, the Vercel AI SDK and pydantic-ai, with their words masked."""
    body = REQUESTS[name]
    model = TOOLED | {"context_length": 200_000, "engine": {"all_parameters": True, "reasoning": True}}
    async with running(models=[model | {"aliases": ["gpt-4o"]}]) as client:
        reply = await client.request("POST", "/v1/responses", json=body)
        assert reply.status == 200, reply.text
        if body.get("stream"):
            check_stream(reply.text)
        else:
            check_body(reply.json())
    hosted = [tool["type"] for tool in body.get("tools", []) if tool["type"] == "web_search"]
    assert reply.headers.get("x-ark-ignored", "") == ", ".join(hosted)


async def test_hosted_tools_may_be_refused() -> None:
    async with running(models=[TOOLED], responses={"hosted_tools": "refuse"}) as client:
        refused = await post(client, tools=[FUNCTION, {"type": "web_search"}])
        assert (refused.status, refused.error["code"]) == (400, "unsupported_tool")
        assert refused.error["param"] == "tools[1].type"
        assert (await post(client, tools=[FUNCTION])).status == 200


async def test_what_is_referred_to_is_no_larger_than_what_may_be_sent() -> None:
    """Else a request of some bytes for each reference would take all memory."""
    async with running(models=[TOOLED], limits={"body_bytes": 2500}) as client:
        references = []
        for _ in range(3):
            first = (await post(client, "x" * 1000)).json()["id"]
            (item,) = (await client.get(f"/v1/responses/{first}/input_items")).json()["data"]
            references.append({"type": "item_reference", "id": item["id"]})
        assert (await post(client, references[:2])).status == 200
        for path in ("/v1/responses", "/v1/responses/input_tokens", "/v1/conversations"):
            field = "items" if path.endswith("conversations") else "input"
            refused = await client.request("POST", path, json={"model": "echo", field: references})
            assert (refused.status, refused.error["param"]) == (400, "input"), refused.text
