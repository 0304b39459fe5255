"""GET /openapi.json: the document says what the routes do."""

from __future__ import annotations

import hashlib
import inspect
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from asgi_client import ECHO, Client, Response, chat_request, running

from ark.api.ops import endpoint
from ark.api.routes import ROUTES
from tools.openapi.document import encode

pytestmark = pytest.mark.anyio

HASHES: dict[str, Any] = {"name": "words", "task": "embedding", "backend": "hash_embeddings:HashEmbeddings"}
PAIRS: dict[str, Any] = {"name": "pairs", "task": "rerank", "backend": "word_reranker:WordReranker"}
KEY = {"name": "team", "sha256": hashlib.sha256(b"secret").hexdigest()}


async def document(client: Client, path: str = "/openapi.json") -> Any:
    reply = await client.get(path)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    return reply.json()


def check(document: Any, reply: Response, path: str, method: str) -> None:
    """The reply is as the document says."""
    described = document["paths"][path][method]["responses"][str(reply.status)]
    if "$ref" in described:
        described = document["components"]["responses"][described["$ref"].rpartition("/")[2]]
    media = reply.headers["content-type"].partition(";")[0]
    schema = described["content"][media]["schema"]
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(reply.json())


async def test_every_route_is_in_it_and_nothing_else() -> None:
    async with running() as client:
        paths = (await document(client))["paths"]
    assert {path: {*methods} for path, methods in paths.items()} == {
        path: {method.lower() for method in methods} for path, methods in ROUTES.items()
    }


async def test_every_operation_has_a_name_and_a_summary_of_its_own() -> None:
    async with running() as client:
        paths = (await document(client))["paths"]
    operations = [operation for methods in paths.values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] for operation in operations)


@pytest.mark.parametrize("path", ["/openapi.json", "/v1/openapi.json"])
@pytest.mark.parametrize("stripped", [True, False])
async def test_the_servers_are_where_it_is_mounted(path: str, stripped: bool) -> None:
    async with running() as client:
        mounted = Client(client.app, root_path="/a b")
        found = await document(mounted, path if stripped else "/a b" + path)
        plain = await document(client, path)
    assert [one["url"] for one in found["servers"]] == ["/a%20b/v1", "/a%20b"]
    assert [one["url"] for one in plain["servers"]] == ["/v1", "/"]
    assert found | {"servers": []} == plain | {"servers": []}


async def test_it_asks_for_a_key_where_the_server_does_and_is_read_without_one() -> None:
    async with running(keys=[KEY]) as client:
        found = await document(client)
        refused = await client.get("/v1/models")
        health = await client.get("/health")
    assert found["security"] == [{"key": []}]
    assert found["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert (refused.status, health.status) == (401, 200)
    check(found, refused, "/models", "get")
    assert "401" not in found["paths"]["/health"]["get"]["responses"]
    assert found["paths"]["/health"]["get"]["security"] == []


async def test_an_open_server_asks_for_no_key() -> None:
    async with running() as client:
        found = await document(client)
    assert "security" not in found
    assert "securitySchemes" not in found["components"]


async def test_it_tells_nothing_of_the_models() -> None:
    async with running(models=[ECHO | {"name": "inner-secret", "aliases": ["other-secret"]}]) as client:
        assert "secret" not in (await client.get("/openapi.json")).text


async def test_replies_are_as_it_says() -> None:
    async with running(models=[ECHO, HASHES, PAIRS]) as client:
        found = await document(client)
        chat = await client.chat("hello")
        check(found, chat, "/chat/completions", "post")
        check(found, await client.chat("hello", model="none"), "/chat/completions", "post")
        check(found, await client.chat("hello", temperature=5), "/chat/completions", "post")
        words = await client.request("POST", "/embeddings", json={"model": "words", "input": "a b"})
        check(found, words, "/embeddings", "post")
        pair: dict[str, object] = {"model": "pairs", "query": "a", "documents": ["a b"], "return_documents": True}
        check(found, await client.request("POST", "/rerank", json=pair), "/rerank", "post")
        pair = {"model": "pairs", "text_1": "a", "text_2": "a b"}
        check(found, await client.request("POST", "/score", json=pair), "/score", "post")
        check(found, await client.get("/models"), "/models", "get")
        check(found, await client.get("/models/echo"), "/models/{model}", "get")
        check(found, await client.get("/sessions"), "/sessions", "get")
        session = chat.headers["x-ark-session"].partition(";")[0]
        check(found, await client.get(f"/sessions/{session}"), "/sessions/{session}", "get")
        check(found, await client.request("DELETE", f"/sessions/{session}"), "/sessions/{session}", "delete")
        check(found, await client.get(f"/sessions/{session}"), "/sessions/{session}", "get")
        check(found, await client.get("/health"), "/health", "get")
        check(found, await client.get("/ready"), "/ready", "get")


async def test_the_events_of_a_stream_are_as_it_says() -> None:
    async with running() as client:
        found = await document(client)
        options = {"include_usage": True}
        reply = await client.request("POST", "/chat/completions", **chat_request(stream=True, stream_options=options))
    content = found["paths"]["/chat/completions"]["post"]["responses"]["200"]["content"]["text/event-stream"]
    schema = {**content["schema"]["contentSchema"], "components": found["components"]}
    assert len(reply.chunks) > 2
    for chunk in reply.chunks:
        jsonschema.Draft202012Validator(schema).validate(chunk)


async def test_what_a_reply_always_has_is_required_and_a_request_may_leave_out() -> None:
    async with running() as client:
        schemas = (await document(client))["components"]["schemas"]
    assert "object" in schemas["Completion"]["required"]
    assert "reasoning_content" not in schemas["ReplyMessage"]["required"]
    # It stands in requests, too.
    assert "type" not in schemas["ToolCall"]["required"]


async def test_docstrings_of_fields_are_in_it() -> None:
    async with running() as client:
        schemas = (await document(client))["components"]["schemas"]
    assert schemas["EmbeddingUsage"]["properties"]["prompt_tokens"]["description"].startswith("Tokens that")
    # Inherited ones, and null for None.
    assert schemas["SessionObject"]["properties"]["expires"]["description"].startswith("When it expires")
    assert "null" in schemas["ModelDetails"]["properties"]["alias_of"]["description"]


def test_the_shipped_document_is_what_the_code_says() -> None:
    shipped = files("ark.api.ops").joinpath("openapi.json").read_bytes()
    assert shipped == encode(), "ark/api/ops/openapi.json is stale: python -m tools.openapi"


async def test_serving_reads_no_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation may come without it."""

    def unreadable(*_: object, **__: object) -> None:
        raise OSError("there is no source")

    monkeypatch.setattr(inspect, "getsource", unreadable)
    endpoint._document.cache_clear()
    async with running() as client:
        assert (await document(client))["paths"]


async def test_patterns_end_as_json_schema_has_it() -> None:
    async with running() as client:
        reply = await client.get("/openapi.json")
    assert "\\Z" not in reply.text
    assert reply.json()["components"]["schemas"]["FunctionDefinition"]["properties"]["name"]["pattern"].endswith("}$")


async def test_a_name_does_not_end_in_a_line_break() -> None:
    tool = {"type": "function", "function": {"name": "look\n"}}
    async with running() as client:
        reply = await client.chat("hello", tools=[tool])
    assert reply.status == 400
    assert reply.json()["error"]["param"] == "tools[0].function.name"
