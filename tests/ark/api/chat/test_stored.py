"""Stored chat completions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asgi_client import ECHO, Client, Response, running
from sse import read_events

pytestmark = pytest.mark.anyio

MODEL = ECHO | {"backend": "faulty_backend:Faulty", "engine": {"all_parameters": True}, "aliases": ["other"]}
KEYS = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name in ("ann", "bob")]
PATH = "/v1/chat/completions"


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running(models=[MODEL]) as made:
        yield made


async def store(client: Client, text: str = "hello", *, key: str | None = None, **fields: Any) -> Any:
    headers = [] if key is None else [("authorization", f"Bearer {key}")]
    reply = await client.chat(text, store=True, headers=headers, **fields)
    assert reply.status == 200, reply.text
    return reply.json()


async def ask(client: Client, method: str = "GET", path: str = "", query: str = "", **given: Any) -> Response:
    return await client.request(method, PATH + path, query=query, **given)


async def ids(client: Client, query: str = "") -> list[str]:
    return [one["id"] for one in (await ask(client, query=query)).json()["data"]]


async def test_only_what_is_to_be_stored_is(client: Client) -> None:
    for fields in ({}, {"store": False}, {"store": None}):
        assert (await client.chat("hello", **fields)).status == 200
    assert (await ask(client)).json() == {
        "object": "list",
        "data": [],
        "first_id": "",
        "last_id": "",
        "has_more": False,
    }
    made = await store(client)
    assert await ids(client) == [made["id"]]


@pytest.mark.parametrize("simplified", [False, True])
async def test_a_stream_is_stored_before_it_ends(client: Client, simplified: bool) -> None:
    reply = await client.chat("hello", store=True, stream=True, n=1, ark_simplified=simplified)
    assert read_events(reply.text)[-1].data == "[DONE]"
    (found,) = (await ask(client)).json()["data"]
    assert found["choices"][0]["message"]["content"] == "hello"
    assert simplified or json.loads(read_events(reply.text)[0].data)["id"] == found["id"]


async def test_it_is_what_was_sent_and_what_was_asked_for(client: Client) -> None:
    made = await store(client, temperature=0.5, metadata={"a": "b"}, user="ann")
    found = (await ask(client, path=f"/{made['id']}")).json()
    assert {name: found[name] for name in made} == made
    assert (found["temperature"], found["metadata"], found["input_user"]) == (0.5, {"a": "b"}, "ann")
    assert found["tools"] is None


async def test_the_messages_of_its_request(client: Client) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "be"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "ann"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "x", "arguments": ""}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "y"},
    ]
    number = (await client.request("POST", PATH, json={"model": "echo", "messages": messages, "store": True})).json()[
        "id"
    ]
    page = (await ask(client, path=f"/{number}/messages")).json()
    system, user, call, result = page["data"]
    assert (page["first_id"], page["last_id"], page["has_more"]) == (f"{number}-0", f"{number}-3", False)
    assert system == {"id": f"{number}-0", "role": "system", "content": "be", "content_parts": None}
    assert (user["content"], user["content_parts"], user["name"]) == ("a\nb", messages[1]["content"], "ann")
    assert (call["content"], call["tool_calls"]) == (None, messages[2]["tool_calls"])
    assert (result["role"], result["tool_call_id"]) == ("tool", "1")
    page = (await ask(client, path=f"/{number}/messages", query=f"order=desc&limit=1&after={number}-2")).json()
    assert ([one["id"] for one in page["data"]], page["has_more"]) == ([f"{number}-1"], True)


async def test_pages_by_model_and_metadata(client: Client) -> None:
    made = [
        (await store(client, str(n), model=("echo", "other")[n % 2], metadata={"n": str(n % 3), "all": "é &="}))["id"]
        for n in range(6)
    ]
    assert await ids(client) == made
    assert await ids(client, "order=desc&limit=2") == [made[5], made[4]]
    assert await ids(client, f"limit=2&after={made[2]}") == made[3:5]
    assert await ids(client, "model=other") == made[1::2]
    assert await ids(client, "metadata[n]=1") == await ids(client, "metadata%5Bn%5D=1") == [made[1], made[4]]
    assert await ids(client, "model=echo&metadata[n]=1&metadata[all]=%C3%A9%20%26%3D") == [made[4]]
    assert await ids(client, "metadata[n]=1&metadata[none]=") == await ids(client, "model=none") == []
    for query in ("limit=0", "limit=101", "limit=x", "order=up", f"model=other&after={made[0]}"):
        reply = await ask(client, query=query)
        assert (reply.status, reply.error["param"]) == (400, query.split("&")[-1].partition("=")[0])


async def test_metadata_are_replaced(client: Client) -> None:
    number = (await store(client, metadata={"a": "b"}))["id"]
    size = client.app.services.responses.size
    for metadata in ({"c": "d" * 512}, None, {str(n): "" for n in range(16)}):
        changed = (await ask(client, "POST", f"/{number}", json={"metadata": metadata})).json()
        assert changed == (await ask(client, path=f"/{number}")).json()
        assert changed["metadata"] == (metadata or {})
    grown = client.app.services.responses.size - size
    assert grown == len(json.dumps(metadata, separators=(",", ":"))) - len('{"a":"b"}')
    for wrong in ({"a": 1}, {"a": "x" * 513}, {"k" * 65: ""}, {str(n): "" for n in range(17)}, "x"):
        refused = await ask(client, "POST", f"/{number}", json={"metadata": wrong})
        assert (refused.status, refused.error["param"]) == (400, "metadata")
        refused = await client.chat(store=True, metadata=wrong)
        assert (refused.status, refused.error["param"]) == (400, "metadata")
    assert (await client.chat(metadata={"a": 1})).status == 200
    assert (await ask(client, "POST", f"/{number}", json={})).error["param"] == "metadata"
    assert len(await ids(client)) == 1


async def test_a_deleted_one_is_gone(client: Client) -> None:
    number = (await store(client))["id"]
    reply = await ask(client, "DELETE", f"/{number}")
    assert reply.json() == {"id": number, "deleted": True, "object": "chat.completion.deleted"}
    assert client.app.services.responses.size == 0
    for method, path in (("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "/messages")):
        reply = await ask(client, method, f"/{number}{path}", json={"metadata": {}} if method == "POST" else None)
        assert (reply.status, reply.error["code"]) == (404, "completion_not_found")


async def test_nobody_sees_another_keys() -> None:
    async with running(models=[MODEL], keys=KEYS) as client:
        number = (await store(client, key="ann"))["id"]
        bob = [("authorization", "Bearer bob")]
        assert (await ask(client, headers=bob)).json()["data"] == []
        for method, path in (("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "/messages")):
            given = {"json": {"metadata": {}}} if method == "POST" else {}
            reply = await ask(client, method, f"/{number}{path}", headers=bob, **given)
            assert (reply.status, reply.error["code"]) == (404, "completion_not_found")
        assert (await ask(client, path=f"/{number}", headers=[("authorization", "Bearer ann")])).status == 200


async def test_a_completion_is_no_response(client: Client) -> None:
    number = (await store(client))["id"]
    response = (await client.request("POST", "/v1/responses", json={"model": "echo", "input": "a"})).json()["id"]
    assert await ids(client) == [number]
    assert (await ask(client, path=f"/{response}")).status == 404
    assert (await client.get(f"/v1/responses/{number}")).status == 404
    for fields in ({"previous_response_id": number}, {"input": [{"type": "item_reference", "id": f"{number}-0"}]}):
        reply = await client.request("POST", "/v1/responses", json={"model": "echo", "input": "a", **fields})
        assert reply.status in (400, 404)


async def test_they_are_bounded_with_the_responses() -> None:
    async with running(models=[MODEL], responses={"max_responses": 2}) as client:
        first = (await store(client))["id"]
        await client.request("POST", "/v1/responses", json={"model": "echo", "input": "a"})
        last = (await store(client))["id"]
        assert await ids(client) == [last]
        assert (await ask(client, path=f"/{first}")).status == 404
        assert client.app.services.responses.evicted["count"] == 1


async def test_they_live_through_a_restart(tmp_path: Path) -> None:
    sessions = {"path": str(tmp_path / "sessions.db")}
    async with running(models=[MODEL], sessions=sessions) as client:
        made = [await store(client, str(n), metadata={"a": "b"}) for n in range(3)]
        await ask(client, "POST", f"/{made[0]['id']}", json={"metadata": {"a": "c"}})
        await ask(client, "DELETE", f"/{made[1]['id']}")
        before = (await ask(client)).json()
    async with running(models=[MODEL], sessions=sessions) as client:
        assert (await ask(client)).json() == before
        assert await ids(client, "metadata[a]=c") == [made[0]["id"]]


async def test_without_sessions_nothing_is_stored() -> None:
    async with running(models=[MODEL], sessions={"enabled": False}) as client:
        reply = await client.chat(store=True)
        assert (reply.status, reply.headers["x-ark-ignored"]) == (200, "store")
        assert await ids(client) == []


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_reply_that_is_broken_off_is_not_stored(leaves: bool) -> None:
    engine = {"tokens_per_second": 100} if leaves else {"fault": "engine", "when": "middle"}
    model = ECHO | {"backend": "faulty_backend:Faulty", "engine": engine}
    async with running(models=[model]) as client:
        body = {"model": "echo", "messages": [{"role": "user", "content": "x" * 500}], "store": True, "stream": True}
        async with client.open("POST", PATH, json=body) as exchange:
            if leaves:
                await exchange.until(5)
                exchange.disconnect()
        assert await ids(client) == []
