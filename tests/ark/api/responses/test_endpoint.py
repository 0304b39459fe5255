"""POST /responses, and what can be asked of a stored response."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asgi_client import ECHO, Client, Response, backend_of, running
from response_referees import check_body, check_stream

pytestmark = pytest.mark.anyio

TOOLED = ECHO | {"backend": "faulty_backend:Faulty", "engine": {"all_parameters": True}, "tool_format": "hermes"}
"""Accepts every parameter, and writes what the last message says."""
FUNCTION = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
CUSTOM = {"type": "custom", "name": "run"}
CALL = '<tool_call>\n{"name": "look", "arguments": {"place": "Paris"}}\n</tool_call>'
RUN = '<tool_call>\n{"name": "run", "arguments": {"input": "print(\\"\\u00e9\\")\\n"}}\n</tool_call>'
AGENTS = Path(__file__).parents[3] / "data" / "agents"
KEYS = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name in ("ann", "bob")]


async def post(client: Client, input: Any = "hello", *, key: str | None = None, **fields: Any) -> Response:
    body = {"model": "echo", "input": input, **fields}
    headers = [] if key is None else [("authorization", f"Bearer {key}")]
    reply = await client.request(
        "POST",
        "/v1/responses",
        json={name: value for name, value in body.items() if value is not None},
        headers=headers,
    )
    if reply.status == 200 and fields.get("stream"):
        check_stream(reply.text)
    elif reply.status == 200:
        check_body(reply.json())
    return reply


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running(models=[TOOLED]) as made:
        yield made


def prompt_of(client: Client, job: int = -1) -> str:
    return bytes(backend_of(client).jobs[job].prompt).decode()


async def test_a_whole_response(client: Client) -> None:
    body = (await post(client)).json()
    assert body["object"] == "response"
    assert body["status"] == "completed"
    (item,) = body["output"]
    assert item["content"] == [{"type": "output_text", "text": "hello", "annotations": [], "logprobs": []}]
    usage = body["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (len("user: hello\nassistant: "), 6)
    assert (body["store"], body["metadata"], body["tools"], body["text"]["format"]) == (True, {}, [], {"type": "text"})


async def test_a_stream_ends_with_what_is_stored(client: Client) -> None:
    reply = await post(client, stream=True)
    events = check_stream(reply.text)
    kinds = [event["type"].removeprefix("response.") for event in events]
    assert kinds == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *["output_text.delta"] * len("hello"),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    response = events[-1]["response"]
    assert (await client.get(f"/v1/responses/{response['id']}")).json() == response


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


async def test_a_reply_that_is_cut_is_incomplete(client: Client) -> None:
    for stream in (False, True):
        reply = await post(client, max_output_tokens=2, stream=stream)
        body = check_stream(reply.text)[-1]["response"] if stream else reply.json()
        assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
        assert body["output"][0]["status"] == "incomplete"


async def test_what_was_sent_is_said_again(client: Client) -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    sent: dict[str, Any] = {
        "instructions": "be brief",
        "metadata": {"a": "b"},
        "max_output_tokens": 50,
        "max_tool_calls": 3,
        "temperature": 0.5,
        "top_p": 0.25,
        "truncation": "disabled",
        "prompt_cache_key": "k",
        "safety_identifier": "s",
        "user": "u",
        "reasoning": {"effort": "low", "summary": None},
        "text": {"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": True}, "verbosity": "low"},
    }
    body = (await post(client, **sent, service_tier="auto", unknown=1)).json()
    sent["text"]["format"]["description"] = None
    assert {name: body[name] for name in sent} == sent
    assert json.dumps(schema)[:20] in backend_of(client).jobs[-1].grammar.lark


async def test_instructions_are_of_one_response_only(client: Client) -> None:
    first = (await post(client, "a", instructions="be brief")).json()
    assert prompt_of(client) == "system: be brief\nuser: a\nassistant: "
    later = (await post(client, "b", previous_response_id=first["id"])).json()
    assert prompt_of(client) == "user: a\nassistant: a\nuser: b\nassistant: "
    await post(client, "c", previous_response_id=later["id"], instructions="be long")
    assert prompt_of(client).startswith("system: be long\nuser: a\nassistant: a\nuser: b\n")


async def test_an_earlier_response_is_continued_with_its_exact_tokens(client: Client) -> None:
    first = (await post(client, "a")).json()
    for stream in (False, True):
        reply = await post(client, "b", previous_response_id=first["id"], stream=stream, model=None)
        assert reply.headers["x-ark-session"].endswith("; continued")
        assert backend_of(client).jobs[-1].prompt == [*b"user: a\nassistant: a\nuser: b\nassistant: "]


async def test_branches_keep_apart_and_the_first_takes_the_state_over(client: Client) -> None:
    root = (await post(client, "a")).json()
    left = (await post(client, "left", previous_response_id=root["id"])).json()
    right = (await post(client, "right", previous_response_id=root["id"])).json()
    await post(client, "b", previous_response_id=left["id"])
    assert "right" not in prompt_of(client)
    await post(client, "b", previous_response_id=right["id"])
    assert "left" not in prompt_of(client)
    keys = [job.session for job in backend_of(client).jobs]
    assert keys[1] == keys[3]
    assert keys[2] == keys[4]
    assert len({*keys}) == 3


async def test_nobody_continues_what_is_not_there() -> None:
    async with running(keys=KEYS) as client:
        made = (await post(client, key="ann")).json()["id"]
        for key, number in (("ann", "resp_none"), ("bob", made), ("ann", "x" * 1000), ("ann", "x" * 2000)):
            for stream in (False, True):
                reply = await post(client, key=key, previous_response_id=number, stream=stream)
                assert reply.status == (400 if len(number) > 1024 else 404)
                assert reply.status == 400 or reply.error["code"] == "previous_response_not_found"
                assert reply.error["param"] == "previous_response_id"
                assert len(reply.body) < 1000
        bob = [("authorization", "Bearer bob")]
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/input_items")):
            reply = await client.request(method, f"/v1/responses/{made}{path}", headers=bob)
            assert (reply.status, reply.error["code"]) == (404, "response_not_found")


async def test_a_deleted_response_is_gone_and_those_behind_it_stay(client: Client) -> None:
    first = (await post(client, "a")).json()
    second = (await post(client, "b", previous_response_id=first["id"])).json()
    reply = await client.request("DELETE", f"/v1/responses/{first['id']}")
    assert reply.json() == {"id": first["id"], "deleted": True, "object": "response.deleted"}
    assert (await client.get(f"/v1/responses/{first['id']}")).status == 404
    assert (await post(client, "c", previous_response_id=first["id"])).status == 404
    await post(client, "c", previous_response_id=second["id"])
    assert prompt_of(client) == "user: a\nassistant: a\nuser: b\nassistant: b\nuser: c\nassistant: "


async def test_what_is_not_stored_cannot_be_asked_for(client: Client) -> None:
    body = (await post(client, store=False)).json()
    assert body["store"] is False
    assert (await client.get(f"/v1/responses/{body['id']}")).status == 404
    assert (await post(client, previous_response_id=body["id"])).status == 404
    stored = (await post(client)).json()
    behind = (await post(client, previous_response_id=stored["id"], store=False)).json()
    assert (await client.get(f"/v1/responses/{behind['id']}")).status == 404
    assert backend_of(client).jobs[-1].session is None


async def test_the_tokens_of_an_input_are_counted(client: Client) -> None:
    """As many as a response to it reads."""
    first = (await post(client, "a", instructions="be")).json()
    for fields in ({"instructions": "be"}, {"previous_response_id": first["id"]}):
        body = {"model": "echo", "input": "a", **fields}
        counted = (await client.request("POST", "/v1/responses/input_tokens", json=body)).json()
        asked = (await post(client, "a", **fields)).json()
        assert counted == {"object": "response.input_tokens", "input_tokens": asked["usage"]["input_tokens"]}


async def test_pages_of_input_items(client: Client) -> None:
    items = [{"role": "user", "content": str(number)} for number in range(45)]
    number = (await post(client, items)).json()["id"]
    path = f"/v1/responses/{number}/input_items"

    async def texts(query: str) -> tuple[list[str], Any]:
        page = (await client.get(path, query=query)).json()
        assert page["data"][-1]["id"] == page["last_id"]
        return [item["content"][0]["text"] for item in page["data"]], page

    newest, page = await texts("")
    assert newest == [str(number) for number in range(44, 24, -1)]
    assert page["has_more"]
    oldest, page = await texts("order=asc&limit=40")
    assert oldest == [str(number) for number in range(40)]
    rest, page = await texts(f"order=asc&limit=40&after={page['last_id']}")
    assert rest == ["40", "41", "42", "43", "44"]
    assert not page["has_more"]
    for query in ("limit=0", "limit=101", "limit=x", "order=up", "after=msg_none"):
        reply = await client.get(path, query=query)
        assert (reply.status, reply.error["param"]) == (400, query.partition("=")[0])


async def test_an_item_of_a_stored_response_is_read_by_its_id(client: Client) -> None:
    first = (await post(client, "a")).json()
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    await post(client, [{"role": "user", "content": "a"}, reference, {"role": "user", "content": "b"}])
    assert prompt_of(client).startswith("user: a\nassistant: a")
    await post(client, [{"id": first["output"][0]["id"]}, {"role": "user", "content": "b"}])
    assert prompt_of(client).startswith("assistant: a")


async def test_without_sessions_nothing_is_kept() -> None:
    async with running(sessions={"enabled": False}) as client:
        body = (await post(client)).json()
        assert body["store"] is False
        assert (await client.get(f"/v1/responses/{body['id']}")).status == 404
        refused = await post(client, previous_response_id=body["id"])
    assert (refused.status, refused.error["code"]) == (400, "sessions_disabled")


@pytest.mark.parametrize("field", ["previous_response_id", "conversation"])
async def test_what_a_request_continues_by_its_id_can_be_switched_off(field: str) -> None:
    async with running(sessions={"explicit": False}) as client:
        body = (await post(client)).json()
        refused = await post(client, **{field: body["id"]})
    assert (refused.status, refused.error["code"]) == (400, "sessions_disabled")
    assert refused.error["param"] == field


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"model": None}, "model"),
        ({"model": "none"}, "model"),
        ({"input": 5}, "input"),
        ({"input": [{"type": "nothing"}]}, "input[0].type"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "message", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": "x"}, {"role": "tool", "content": "x"}]}, "input[1].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0].type",
        ),
        ({"input": [{"type": "function_call", "call_id": "1", "name": "x"}]}, "input[0].arguments"),
        ({"input": [{"type": "function_call_output", "call_id": "1", "output": "x"}]}, "input[0].tool_call_id"),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
        ({"input": [{"type": "item_reference", "id": "msg_none"}]}, "input[0].id"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "other", "name": "x"}]}, "tools[0].type"),
        ({"tools": [FUNCTION, FUNCTION]}, "tools[1].name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice.name"),
        ({"temperature": 3}, "temperature"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"input": "x" * 5000}, "input"),
    ],
)
async def test_bad_requests_name_the_parameter(client: Client, fields: dict[str, Any], param: str) -> None:
    for stream in (False, True):
        reply = await post(client, **{"input": "hello", **fields, "stream": stream})
        assert reply.status in (400, 404)
        assert reply.error["param"] == param


@pytest.mark.parametrize("when", ["admission", "middle"])
async def test_an_engine_that_fails(when: str) -> None:
    model = TOOLED | {"engine": {"fault": "engine", "when": when}}
    async with running(models=[model]) as client:
        whole = await post(client, "hello there")
        stream = await client.request(
            "POST", "/v1/responses", json={"model": "echo", "input": "hello there", "stream": True}
        )
        stored = len(client.app.services.responses)
    assert (whole.status, whole.error["code"]) == (503, "engine_failed")
    if when == "admission":
        assert stream.status == 503
    else:
        events = check_stream(stream.text)
        assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
        assert events[-2]["code"] == events[-2]["error"]["code"] == "engine_failed"
        assert events[-1]["response"]["error"]["code"] == "server_error"
    assert stored == 0


async def test_a_client_that_leaves_leaves_nothing() -> None:
    model = TOOLED | {"engine": {"tokens_per_second": 100}}
    async with running(models=[model]) as client:
        body = {"model": "echo", "input": "x" * 500, "stream": True}
        async with client.open("POST", "/v1/responses", json=body) as exchange:
            await exchange.until(5)
            exchange.disconnect()
        assert len(client.app.services.responses) == 0


RECORDED = {path.stem: json.loads(path.read_text()) for path in AGENTS.glob("*.json")}
REQUESTS = {name: sent["body"] for name, sent in sorted(RECORDED.items()) if sent["path"].endswith("/responses")}


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
