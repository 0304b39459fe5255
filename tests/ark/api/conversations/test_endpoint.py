"""/conversations, their items, and responses of them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asgi_client import ECHO, Client, Response, backend_of, running
from openai.types.conversations import Conversation, ConversationItem, ConversationItemList
from pydantic import TypeAdapter

pytestmark = pytest.mark.anyio

MODEL = ECHO | {"backend": "faulty_backend:Faulty", "engine": {"reasoning": True}}
KEYS = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name in ("ann", "bob")]
ITEM: TypeAdapter[Any] = TypeAdapter(ConversationItem)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with running(models=[MODEL]) as made:
        yield made


async def ask(client: Client, method: str, path: str = "", json: Any = None, **given: Any) -> Response:
    return await client.request(method, f"/v1/conversations{path}", json=json, **given)


async def respond(client: Client, text: str, conversation: Any, **fields: Any) -> Response:
    body = {"model": "echo", "input": text, "conversation": conversation, **fields}
    return await client.request("POST", "/v1/responses", json=body)


async def texts(client: Client, number: str) -> list[str]:
    """Of a conversation's items, as OpenAI's types read them."""
    page = (await ask(client, "GET", f"/{number}/items", query="order=asc&limit=100")).json()
    ConversationItemList.model_validate(page)
    items = [ITEM.validate_python(item) for item in page["data"]]
    return [part.text for item in items for part in item.content]


def prompt_of(client: Client) -> str:
    return bytes(token for token in backend_of(client).jobs[-1].prompt if token < 256).decode()


async def test_a_conversation_from_beginning_to_end() -> None:
    async with running(models=[MODEL]) as client:
        made = (await ask(client, "POST", json={"metadata": {"a": "b"}})).json()
        Conversation.model_validate(made)
        path = f"/{made['id']}"
        assert (await ask(client, "GET", path)).json() == made
        changed = (await ask(client, "POST", path, json={"metadata": {"c": "d"}})).json()
        assert changed == made | {"metadata": {"c": "d"}}
        added = (await ask(client, "POST", f"{path}/items", json={"items": [{"role": "user", "content": "hi"}]})).json()
        (item,) = added["data"]
        ITEM.validate_python(item)
        assert (await ask(client, "GET", f"{path}/items/{item['id']}")).json() == item
        assert (await ask(client, "DELETE", f"{path}/items/{item['id']}")).json()["id"] == made["id"]
        assert (await ask(client, "GET", f"{path}/items/{item['id']}")).error["code"] == "item_not_found"
        assert await texts(client, made["id"]) == []
        assert (await ask(client, "DELETE", path)).json()["deleted"] is True
        for method, more in (("GET", ""), ("DELETE", ""), ("GET", "/items")):
            assert (await ask(client, method, path + more)).error["code"] == "conversation_not_found"
        assert (await respond(client, "x", made["id"])).status == 404


async def test_responses_of_a_conversation_add_to_it() -> None:
    async with running(models=[MODEL]) as client:
        made = (await ask(client, "POST", json={"items": [{"role": "developer", "content": "be"}]})).json()["id"]
        first = await respond(client, "<think>why</think>\n\na", made)
        assert first.json()["conversation"] == {"id": made}
        second = await respond(client, "b", {"id": made}, store=False)
        assert second.headers["x-ark-session"].endswith(("; continued", "; rebuilt"))
        said = "<think>why</think>\n\na"
        assert prompt_of(client).startswith(f"system: be\nuser: {said}\nassistant: {said}")
        assert await texts(client, made) == ["be", said, "why", "a", "b", "b"]
        assert (await client.get(f"/v1/responses/{first.json()['id']}")).status == 200
        assert (await client.get(f"/v1/responses/{second.json()['id']}")).status == 404
        await ask(client, "POST", f"/{made}/items", json={"items": [{"role": "user", "content": "between"}]})
        await respond(client, "c", made, instructions="new")
        assert prompt_of(client).startswith("system: new\nsystem: be\nuser: <think>")
        assert prompt_of(client).endswith(
            "<think>why</think>\n\na\nuser: b\nassistant: b\nuser: between\nuser: c\nassistant: "
        )


async def test_a_removed_item_is_no_longer_read() -> None:
    async with running(models=[MODEL]) as client:
        made = (await ask(client, "POST", json={})).json()["id"]
        for text in ("a", "b"):
            await respond(client, text, made)
        page = (await ask(client, "GET", f"/{made}/items", query="order=asc")).json()
        for item in page["data"][:2]:
            await ask(client, "DELETE", f"/{made}/items/{item['id']}")
        await respond(client, "c", made)
        assert prompt_of(client) == "user: b\nassistant: b\nuser: c\nassistant: "


async def test_a_turn_that_fails_adds_nothing() -> None:
    model = MODEL | {"engine": {"fault": "engine", "when": "middle"}}
    async with running(models=[model]) as client:
        made = (await ask(client, "POST", json={})).json()["id"]
        assert (await respond(client, "some text", made)).status == 503
        assert await texts(client, made) == []


async def test_another_key_finds_nothing() -> None:
    ann, bob = ([("authorization", f"Bearer {name}")] for name in ("ann", "bob"))
    async with running(keys=KEYS) as client:
        made = (await ask(client, "POST", json={}, headers=ann)).json()["id"]
        body = {"model": "echo", "input": "x", "conversation": made}
        assert (await client.request("POST", "/v1/responses", json=body, headers=bob)).status == 404
        assert (await client.request("POST", "/v1/responses", json=body, headers=ann)).status == 200
        for method, more, sent in (
            *(("GET", "", None), ("DELETE", "", None), ("POST", "", {"metadata": {}}), ("GET", "/items", None)),
            ("POST", "/items", {"items": [{"role": "user", "content": "x"}]}),
        ):
            reply = await ask(client, method, f"/{made}{more}", json=sent, headers=bob)
            assert (reply.status, reply.error["code"]) == (404, "conversation_not_found")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"conversation": 5}, "conversation"),
        ({"conversation": {}}, "conversation.id"),
        ({"conversation": "conv_x", "previous_response_id": "resp_x"}, "conversation"),
    ],
)
async def test_bad_references(fields: dict[str, Any], param: str) -> None:
    async with running() as client:
        reply = await client.request("POST", "/v1/responses", json={"model": "echo", "input": "x", **fields})
    assert (reply.status, reply.error["param"]) == (400, param)


async def test_bad_items_name_their_place() -> None:
    async with running() as client:
        reply = await ask(client, "POST", json={"items": [{"type": "nothing"}]})
        assert (reply.status, reply.error["param"]) == (400, "items[0].type")


async def test_conversations_live_through_a_restart(tmp_path: Path) -> None:
    """With the tokens of their last turn, of a response that was not stored as well."""
    sessions = {"path": str(tmp_path / "sessions.db")}
    async with running(models=[MODEL], sessions=sessions) as client:
        kept = (await ask(client, "POST", json={"metadata": {"a": "b"}})).json()
        gone = (await ask(client, "POST", json={})).json()
        for number in (kept["id"], gone["id"]):
            await respond(client, "<think>why</think>\n\na", number, store=False)
        await ask(client, "DELETE", f"/{gone['id']}")
    async with running(models=[MODEL], sessions=sessions) as client:
        assert (await ask(client, "GET", f"/{kept['id']}")).json() == kept
        assert (await ask(client, "GET", f"/{gone['id']}")).status == 404
        await respond(client, "b", kept["id"])
        assert prompt_of(client).endswith("assistant: <think>why</think>\n\na\nuser: b\nassistant: ")
        assert len(client.app.services.responses._owners[""].nodes) == 2


async def test_limits_drop_the_least_recently_used() -> None:
    async with running(models=[MODEL], responses={"max_conversations": 2}) as client:
        numbers = [(await ask(client, "POST", json={})).json()["id"] for _ in range(2)]
        await ask(client, "GET", f"/{numbers[0]}")
        numbers.append((await ask(client, "POST", json={})).json()["id"])
        found = [(await ask(client, "GET", f"/{number}")).status for number in numbers]
        assert found == [200, 404, 200]


async def test_one_conversation_does_not_grow_for_ever() -> None:
    async with running(models=[MODEL], responses={"bytes_per_key": 4000}) as client:
        made = (await ask(client, "POST")).json()["id"]
        small, large = ({"items": [{"role": "user", "content": "x" * size}]} for size in (2500, 3500))
        refused = await ask(client, "POST", f"/{made}/items", json=large)
        assert (refused.status, refused.error["code"]) == (400, "conversation_too_large")
        assert await texts(client, made) == []
        assert (await ask(client, "POST", f"/{made}/items", json=small)).status == 200
        # Its reply is kept whole, and then it is full.
        assert (await respond(client, "y" * 500, made)).status == 200
        full = await respond(client, "z", made)
        assert (full.status, full.error["code"]) == (400, "conversation_too_large")
        assert (await ask(client, "DELETE", f"/{made}")).status == 200


async def test_what_a_conversation_keeps_is_freed_with_it() -> None:
    async with running(models=[MODEL]) as client:
        made = (await ask(client, "POST", json={})).json()["id"]
        for text in ("a", "b"):
            await respond(client, text, made, store=False)
        store = client.app.services.responses
        assert (len(store), store.size > 0) == (0, True)
        await ask(client, "DELETE", f"/{made}")
        assert store.size == 0
        assert not any(store.evicted.values())


async def test_they_are_in_the_metrics(client: Client) -> None:
    async def metric(name: str) -> float:
        (line,) = [line for line in (await client.get("/metrics")).text.splitlines() if line.startswith(f"{name} ")]
        return float(line.split()[1])

    assert (await metric("ark:conversations"), await metric("ark:conversation_bytes")) == (0, 0)
    body = {"items": [{"role": "user", "content": "x" * 5000}]}
    number = (await client.request("POST", "/v1/conversations", json=body)).json()["id"]
    assert await metric("ark:conversations") == 1
    assert 6000 < await metric("ark:conversation_bytes") < 7000
    await client.request("DELETE", f"/v1/conversations/{number}")
    assert (await metric("ark:conversations"), await metric("ark:conversation_bytes")) == (0, 0)


async def test_an_item_stands_once(client: Client) -> None:
    item = {"type": "message", "id": "msg_1", "role": "user", "content": "a"}
    twice = await client.request("POST", "/v1/conversations", json={"items": [item, item]})
    assert (twice.status, twice.error["code"]) == (400, "duplicate_item")
    number = (await client.request("POST", "/v1/conversations", json={"items": [item]})).json()["id"]
    added = await client.request("POST", f"/v1/conversations/{number}/items", json={"items": [item]})
    turn = {"model": "echo", "conversation": number, "input": [item]}
    for refused in (added, await client.request("POST", "/v1/responses", json=turn)):
        assert (refused.status, refused.error["code"]) == (400, "duplicate_item")


async def test_one_deleted_during_its_turn_leaves_nothing(client: Client) -> None:
    services = client.app.services
    number = (await client.request("POST", "/v1/conversations", json={})).json()["id"]
    found = services.conversations.get("", number)
    services.conversations.delete("", number)
    made = (await client.request("POST", "/v1/responses", json={"model": "echo", "input": "a"})).json()["id"]
    node = services.responses.get("", made)
    await services.conversations.extend(found, {"x": b"{}"}, node)
    assert (node.children, found.tip, services.conversations.size) == (0, None, 0)
