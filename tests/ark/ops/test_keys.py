"""API keys."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from asgi_client import ECHO, running

from ark.config import KeyConfig
from ark.errors import Unauthorized
from ark.ops.keys import Keys

pytestmark = pytest.mark.anyio


def key(name: str, text: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "sha256": hashlib.sha256(text.encode()).hexdigest(), **more}


def bearer(value: str) -> list[tuple[str, str]]:
    return [("authorization", value)]


@pytest.mark.parametrize(
    "header",
    [
        "Bearer right",
        "bearer right",
        "BEARER right",
        "Bearer   right  ",
        " Bearer right",
    ],
)
async def test_the_right_key(header: str) -> None:
    async with running(keys=[key("wrong-one", "other"), key("one", "right")]) as client:
        reply = await client.get("/v1/models", headers=bearer(header))
    assert reply.status == 200


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "right",
        "Basic right",
        "Bearer wrong",
        "Bearer Right",
        "Bearer right right",
        "Bearer rightx",
        "Bearer \xff\xfe",
        "Bearerright",
        "Bearer right, Bearer right",
    ],
)
async def test_any_other_is_401(header: str | None) -> None:
    headers = [] if header is None else bearer(header)
    async with running(keys=[key("one", "right")]) as client:
        replies = [await client.get("/v1/models", headers=headers), await client.chat(headers=headers)]
    for reply in replies:
        assert reply.status == 401
        assert reply.error["code"] == "invalid_api_key"
        assert reply.headers["www-authenticate"] == "Bearer"
        assert "right" not in reply.error["message"]


@pytest.mark.parametrize("text", ["schlüssel", "clé-à", "鍵", "k\N{NO-BREAK SPACE}"])
async def test_a_key_of_any_characters(text: str) -> None:
    """Clients send UTF-8, of which the last byte may look like white space where the header is read as Latin-1."""
    sent = text.encode().decode("latin-1")
    async with running(keys=[key("one", text)]) as client:
        reply = await client.get("/v1/models", headers=bearer(f"Bearer {sent}"))
    assert reply.status == 200


async def test_a_digest_in_capitals() -> None:
    configured = key("one", "right")
    configured["sha256"] = configured["sha256"].upper()
    async with running(keys=[configured]) as client:
        assert (await client.get("/v1/models", headers=bearer("Bearer right"))).status == 200


async def test_two_authorization_headers_are_no_way_in() -> None:
    async with running(keys=[key("one", "right")]) as client:
        reply = await client.get("/v1/models", headers=bearer("Bearer right") + bearer("Bearer right"))
    assert reply.status == 401


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/health", "/v1/ready"])
async def test_open_routes_need_no_key(path: str) -> None:
    async with running(keys=[key("one", "right")]) as client:
        assert (await client.get(path)).status == 200
        assert (await client.get(path, headers=bearer("Bearer wrong"))).status == 200


async def test_an_open_server_takes_any_key() -> None:
    async with running() as client:
        assert (await client.get("/v1/models", headers=bearer("Bearer anything"))).status == 200


async def test_a_refused_request_is_not_read() -> None:
    async with running(keys=[key("one", "right")]) as client:
        request = client.open("POST", "/v1/chat/completions", body=b"x", headers=[("content-length", "1000000")])
        async with request as exchange:
            await exchange.until(1)
            assert exchange.received == 0
    assert exchange.response.status == 401


async def test_a_key_limited_to_a_model_knows_no_other() -> None:
    models = [ECHO, ECHO | {"name": "second", "aliases": ["also-second"]}]
    keys = [key("narrow", "narrow", models=["second"]), key("wide", "wide"), key("none", "none", models=[])]
    async with running(models=models, keys=keys) as client:
        seen = {}
        for name in ("narrow", "wide", "none"):
            listed = await client.get("/v1/models", headers=bearer(f"Bearer {name}"))
            seen[name] = {model["id"] for model in listed.json()["data"]}
        headers = bearer("Bearer narrow")
        allowed = [await client.chat(model=name, headers=headers) for name in ("second", "also-second")]
        hidden = [await client.chat(model=name, headers=headers) for name in ("echo", "gpt-4o", "nothing")]
        single = await client.get("/v1/models/echo", headers=headers)
    assert seen["narrow"] == {"second", "also-second"}
    assert seen["wide"] == {"echo", "second", "also-second", "gpt-3.5-turbo", "gpt-4o", "gpt-4o-mini"}
    assert seen["none"] == set()
    assert [reply.status for reply in allowed] == [200, 200]
    # A model that exists and one that does not look the same to a key that may not use it.
    assert [reply.status for reply in [*hidden, single]] == [404, 404, 404, 404]
    assert {reply.error["message"].partition("here.")[2] for reply in hidden} == {" There is: second, also-second."}


async def test_what_a_request_costs_does_not_grow_with_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys([KeyConfig(**key(f"key {number}", str(number))) for number in range(1000)])
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return one == other

    monkeypatch.setattr("hmac.compare_digest", compare)
    found = keys.check("Bearer 999")
    assert found is not None
    assert found.name == "key 999"
    with pytest.raises(Unauthorized):
        keys.check("Bearer 1000")
    assert len(compared) == 1
