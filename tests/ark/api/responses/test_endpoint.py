"""POST /responses, and what can be asked of a stored response."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgi_client import Client, backend_of, running
from response_referees import check_stream
from responses_api import FUNCTION, KEYS, TOOLED, post, prompt_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running(models=[TOOLED]) as made:
        yield made


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
