"""Pages of other origins."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from asgi_client import ECHO, Client, Response, running

from ark.config import ConfigError
from ark.config_file import load_config

pytestmark = pytest.mark.anyio

PAGE = "https://chat.example.com"
OTHER = "https://evil.example.com"
KEYS = [{"name": "one", "sha256": hashlib.sha256(b"right").hexdigest()}]


def cors(**fields: Any) -> dict[str, Any]:
    return {"server": {"cors": {"origins": [PAGE, "http://localhost:3000"], **fields}}}


async def preflight(client: Client, origin: str = PAGE, path: str = "/v1/chat/completions", **more: str) -> Response:
    asked = {"access-control-request-method": "POST", **{name.replace("_", "-"): value for name, value in more.items()}}
    return await client.request("OPTIONS", path, headers=[("origin", origin), *asked.items()])


def granted(reply: Response) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name.startswith("access-control-")}


async def test_it_is_off_by_default() -> None:
    async with running() as client:
        asked = await preflight(client)
        reply = await client.chat(headers=[("origin", PAGE)])
    assert asked.status == 405
    assert granted(asked) == granted(reply) == {}
    assert "vary" not in reply.headers


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/sessions/x", "/health", "/v1/nothing"])
async def test_a_preflight_is_answered_without_a_key(path: str) -> None:
    names = "authorization,content-type,x-stainless-os"
    async with running(keys=KEYS, **cors(max_age=77)) as client:
        reply = await preflight(client, path=path, access_control_request_headers=names)
    assert reply.status == 200
    assert reply.body == b""
    told = granted(reply)
    assert told.pop("access-control-expose-headers")
    assert told == {
        "access-control-allow-origin": PAGE,
        "access-control-allow-methods": "GET, HEAD, POST, DELETE",
        "access-control-allow-headers": names,
        "access-control-max-age": "77",
    }
    assert reply.headers["vary"] == "origin"


@pytest.mark.parametrize(
    "origin", [OTHER, PAGE + ".evil.com", "http://chat.example.com", PAGE + ":444", "null", "", PAGE.upper(), "*"]
)
async def test_another_origin_is_told_nothing(origin: str) -> None:
    async with running(**cors(credentials=True)) as client:
        asked = await preflight(client, origin)
        reply = await client.chat(headers=[("origin", origin)])
    assert asked.status == 403
    assert asked.error["code"] == "origin_not_allowed"
    assert granted(asked) == granted(reply) == {}
    # A cache must not give this reply to the page that may.
    assert asked.headers["vary"] == reply.headers["vary"] == "origin"


@pytest.mark.parametrize("stream", [False, True])
async def test_scripts_may_read_what_a_reply_says_of_itself(stream: bool) -> None:
    async with running(limits={"key_requests_per_minute": 9}, **cors()) as client:
        reply = await client.chat(stream=stream, headers=[("origin", "http://localhost:3000")])
        same = await client.chat(stream=stream)
    assert reply.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "access-control-allow-credentials" not in reply.headers
    exposed = set(reply.headers["access-control-expose-headers"].split(", "))
    own = {name for name in reply.headers if name.startswith("x-")} - {"x-accel-buffering"}
    assert {"x-request-id", "x-ark-session", "x-ratelimit-reset-requests"} <= own <= exposed
    assert granted(same) == {}
    assert same.headers["vary"] == "origin"


async def test_errors_can_be_read_too() -> None:
    async with running(keys=KEYS, **cors()) as client:
        replies = [
            await client.chat(headers=[("origin", PAGE)]),
            await client.chat(headers=[("origin", PAGE), ("authorization", "Bearer right")], temperature=9),
            await client.get("/v1/nothing", headers=[("origin", PAGE)]),
            await client.request("PUT", "/v1/models", headers=[("origin", PAGE)]),
        ]
    assert [reply.status for reply in replies] == [401, 400, 404, 405]
    assert {reply.headers["access-control-allow-origin"] for reply in replies} == {PAGE}


async def test_with_credentials() -> None:
    async with running(**cors(credentials=True)) as client:
        replies = [await preflight(client), await client.chat(headers=[("origin", PAGE)])]
    assert {reply.headers["access-control-allow-credentials"] for reply in replies} == {"true"}
    assert {reply.headers["access-control-allow-origin"] for reply in replies} == {PAGE}


async def test_every_origin() -> None:
    async with running(server={"cors": {"origins": "*"}}) as client:
        replies = [await preflight(client, OTHER), await client.chat(headers=[("origin", OTHER)])]
    for reply in replies:
        assert reply.status == 200
        assert reply.headers["access-control-allow-origin"] == "*"
        assert "vary" not in reply.headers


@pytest.mark.parametrize("headers", [[], [("origin", PAGE)], [("access-control-request-method", "POST")]])
async def test_other_options_requests_are_405(headers: list[tuple[str, str]]) -> None:
    async with running(**cors()) as client:
        assert (await client.request("OPTIONS", "/v1/models", headers=headers)).status == 405


async def test_a_preflight_costs_nothing() -> None:
    async with running(limits={"key_requests_per_minute": 1}, **cors()) as client:
        for _ in range(3):
            assert (await preflight(client)).status == 200
        assert (await client.chat()).status == 200


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('origins = "*"\ncredentials = true', "only for origins that are named"),
        ('origins = "https://a.example"', "server.cors.origins"),
        ('origins = ["https://a.example/"]', "server.cors.origins[0]"),
        ('origins = ["a.example"]', "server.cors.origins[0]"),
        ('origins = ["*"]', "server.cors.origins[0]"),
        ('origins = ["null"]', "server.cors.origins[0]"),
        ("credentials = true", "origins"),
    ],
)
def test_what_cannot_be_meant(text: str, says: str, tmp_path: Any) -> None:
    path = tmp_path / "ark.toml"
    path.write_text(f"[server.cors]\n{text}\n[[models]]\nname = '{ECHO['name']}'\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, {})
    assert says in str(caught.value)
