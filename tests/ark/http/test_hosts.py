"""Web pages that reach a server through the browser of somebody who may."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from asgi_client import Client, Response, chat_request, running

pytestmark = pytest.mark.anyio

KEYS = [{"name": "one", "sha256": hashlib.sha256(b"right").hexdigest()}]
KEY = ("authorization", "Bearer right")
PAGE = "https://chat.example.com"


def refusal(reply: Response) -> tuple[int, str | None]:
    return reply.status, reply.error["code"] if reply.status >= 400 else None


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "localhost.", "ark.localhost", "127.0.0.1:8000", "127.9.9.9", "[::1]:8000"],
)
async def test_an_open_server_answers_to_the_names_of_its_machine(host: str) -> None:
    async with running() as client:
        assert (await client.get("/v1/sessions", headers=[("host", host)])).status == 200
        assert (await client.chat(headers=[("host", host)])).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.1", "", "[::2]"],
)
async def test_an_open_server_answers_to_no_name_that_another_may_own(host: str) -> None:
    """A page whose name resolves to this machine is of the server's own origin, and reads what it asks for."""
    same = [("host", host), ("origin", f"http://{host}")]
    async with running() as client:
        for path in ("/v1/sessions", "/v1/models", "/health", "/", "/nothing"):
            assert refusal(await client.get(path, headers=[("host", host)])) == (403, "host_not_allowed")
        assert refusal(await client.chat(headers=same)) == (403, "host_not_allowed")
        assert refusal(await client.request("OPTIONS", "/v1/models", headers=same)) == (403, "host_not_allowed")
    async with running(keys=KEYS) as client:
        assert (await client.chat(headers=[*same, KEY])).status == 200


async def test_hosts_are_allowed_by_name() -> None:
    async def statuses(**tables: Any) -> list[int]:
        async with running(**tables) as client:
            hosts = ("ark.example:80", "localhost", "other.example")
            return [(await client.get("/v1/models", headers=[("host", host), KEY])).status for host in hosts]

    allowed = {"allowed_hosts": ["ark.example"]}
    assert await statuses(server=allowed) == [200, 200, 403]
    assert await statuses(server=allowed, keys=KEYS) == [200, 200, 403]
    assert await statuses(server={"allowed_hosts": ["*"]}) == [200, 200, 200]
    assert await statuses(keys=KEYS) == [200, 200, 200]


async def test_the_address_of_the_connection_is_the_servers_own() -> None:
    async with running() as client:

        async def at_another_address(scope: dict[str, Any], receive: Any, send: Any) -> None:
            await client.app({**scope, "server": ("192.0.2.1", 8000)}, receive, send)

        there = Client(at_another_address)
        assert (await there.get("/v1/models", headers=[("host", "192.0.2.1:8000")])).status == 200
        assert (await there.get("/v1/models", headers=[("host", "192.0.2.2:8000")])).status == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", "http://localhost.evil"])
async def test_pages_of_others_may_not_use_an_open_server(origin: str) -> None:
    sent = [("host", "localhost:8000"), ("origin", origin)]
    form = [("content-type", "multipart/form-data; boundary=x")]
    async with running() as client:
        assert refusal(await client.chat(headers=sent)) == (403, "origin_not_allowed")
        assert refusal(await client.get("/v1/sessions", headers=sent)) == (403, "origin_not_allowed")
        spoken = await client.request("POST", "/v1/audio/transcriptions", body=b"", headers=[*sent, *form])
        assert refusal(spoken) == (403, "origin_not_allowed")
    async with running(keys=KEYS) as client:
        assert (await client.chat(headers=[*sent, KEY])).status == 200


async def test_its_own_page_and_those_of_the_configuration_may() -> None:
    async with running(server={"cors": {"origins": [PAGE]}}) as client:
        for host, origin in (("localhost:8000", "http://localhost:8000"), ("[::1]:1", "https://[::1]:1")):
            assert (await client.chat(headers=[("host", host), ("origin", origin)])).status == 200
        assert (await client.chat(headers=[("host", "localhost"), ("origin", PAGE)])).status == 200
        other = await client.chat(headers=[("host", "localhost"), ("origin", PAGE + ".evil.example")])
    assert refusal(other) == (403, "origin_not_allowed")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/echo", "/health", "/", ""])
async def test_a_target_may_be_a_whole_url(path: str) -> None:
    async with running() as client:
        plain = await client.get(path or "/")
        for url in (f"http://localhost:8000{path}", f"HTTPS://[::1]{path}"):
            # What `Host` says is not looked at.
            whole = await client.get(url, headers=[("host", "other.example")])
            assert (whole.status, whole.body) == (plain.status, plain.body)
        assert refusal(await client.get(f"http://evil.example{path}", headers=[("host", "localhost")])) == (
            403,
            "host_not_allowed",
        )
        assert refusal(await client.get(f"ftp://localhost{path}"))[0] == 404


async def test_what_is_mounted_leaves_both_to_its_parent() -> None:
    sent = [("host", "app.example"), ("origin", "https://page.example")]
    async with running() as client:
        mounted = Client(client.app, root_path="/ai")
        assert (await mounted.get("/ai/v1/models", headers=sent)).status == 200
        # Where `ark serve` runs it, the path is a proxy's.
        client.app.hosts = {"127.0.0.1"}
        assert refusal(await mounted.get("/ai/v1/models", headers=sent)) == (403, "host_not_allowed")
        client.app.hosts = {"app.example"}
        assert (await mounted.get("/ai/v1/models", headers=sent[:1])).status == 200
        assert refusal(await mounted.get("/ai/v1/models", headers=sent)) == (403, "origin_not_allowed")
    async with running(server={"allowed_hosts": ["other.example"]}) as client:
        mounted = Client(client.app, root_path="/ai")
        assert refusal(await mounted.get("/ai/v1/models", headers=sent)) == (403, "host_not_allowed")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"])
async def test_a_body_is_said_to_be_json(kind: str) -> None:
    """Pages of any origin may send these types, or none, without a preflight."""
    async with running() as client:
        reply = await client.request("POST", "/v1/chat/completions", **chat_request(headers=[("content-type", kind)]))
    assert refusal(reply) == (415, "unsupported_media_type")
    async with running() as client:
        for good in ("application/json", "Application/JSON; charset=utf-8", "application/x+json"):
            sent = chat_request(headers=[("content-type", good)])
            assert (await client.request("POST", "/v1/chat/completions", **sent)).status == 200
