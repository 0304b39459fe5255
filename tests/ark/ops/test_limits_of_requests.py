"""Places and rates as requests meet them."""

from __future__ import annotations

import hashlib
import math
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest
from asgi_client import ECHO, Client, Response, backend_of, chat_request, running, until

SLOW = ECHO | {"engine": {"prefill_seconds": 10.0}}


CHAT = ("POST", "/v1/chat/completions")


def rates(reply: Response) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name.startswith("x-ratelimit-")}


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_the_server_has_so_many_places(stream: bool) -> None:
    async with running(models=[SLOW], limits={"concurrent_requests": 2}) as client:
        first, second = (client.open(*CHAT, **chat_request(stream=stream)) for _ in range(2))
        async with first as one, second as two:
            await until(lambda: backend_of(client).status().running == 2)
            full = await client.chat()
            others = [await client.get(path) for path in ("/health", "/ready", "/v1/models", "/metrics")]
            one.disconnect()
            await one.done.wait()
            bad = await client.chat(temperature=9)
            two.disconnect()
    assert full.status == 503
    assert full.error["code"] == "overloaded"
    assert full.headers["retry-after"] == "1"
    assert full.headers["retry-after-ms"] == "1000"
    assert [reply.status for reply in others] == [200] * 4
    assert bad.status == 400


@pytest.mark.anyio
async def test_a_full_server_reads_no_body() -> None:
    app = running(models=[SLOW], limits={"concurrent_requests": 1})
    async with app as client, client.open(*CHAT, **chat_request()) as one:
        await until(lambda: backend_of(client).status().running == 1)
        request = client.open(*CHAT, body=b"x", headers=[("content-length", "1000000")])
        async with request as exchange:
            await exchange.until(1)
            assert exchange.received == 0
        one.disconnect()
    assert exchange.response.status == 503


@pytest.mark.anyio
async def test_slow_bodies_take_no_place_and_count_against_their_key() -> None:
    """Bodies take memory: a key has no more of them on the way than it may have requests."""
    keys = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name in "ab"]
    first, second = ([("authorization", f"Bearer {name}")] for name in "ab")
    async with running(limits={"concurrent_requests": 8}, keys=keys) as client, AsyncExitStack() as held:
        slow = [
            await held.enter_async_context(client.open(*CHAT, body=b'{"model"', ends=False, headers=first))
            for _ in range(2)
        ]
        await until(lambda: all(request.received == 1 for request in slow))
        for _ in range(20):
            over = await client.request(*CHAT, body=b"{", headers=first)
            assert (over.status, over.error["code"]) == (429, "rate_limit_exceeded")
            assert (await client.chat(headers=second)).status == 200
        assert client.app.services.limiter.running == 0
        assert 'requests_refused_total{reason="bodies"} 20.0' in (await client.get("/metrics", headers=second)).text
        for request in slow:
            request.disconnect()
            await request.done.wait()
        assert (await client.chat(headers=first)).status == 200


@pytest.mark.anyio
async def test_bodies_for_which_no_engine_works_count_too() -> None:
    path = ("POST", "/v1/conversations")
    async with running(limits={"concurrent_requests": 1}) as client:
        async with client.open(*path, body=b'{"items"', ends=False) as slow:
            await until(lambda: slow.received == 1)
            assert (await client.request(*path, body=b"{}")).status == 429
            assert (await client.get("/v1/models")).status == 200
            slow.disconnect()
        assert (await client.request(*path, body=b"{}")).status == 200


@pytest.mark.anyio
async def test_slow_bodies_of_an_open_server_count_against_their_address() -> None:
    async with running(limits={"concurrent_requests": 1}) as client:

        async def from_elsewhere(scope: dict[str, Any], receive: Any, send: Any) -> None:
            await client.app({**scope, "client": ("192.0.2.7", 1)}, receive, send)

        async with client.open(*CHAT, body=b'{"model"', ends=False) as slow:
            await until(lambda: slow.received == 1)
            assert (await client.chat()).status == 429
            assert (await Client(from_elsewhere).chat()).status == 200
            slow.disconnect()
        assert (await client.chat()).status == 200


@pytest.mark.anyio
async def test_every_key_has_its_own_places_and_rates() -> None:
    keys = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **limits}
        for name, limits in (("a", {"concurrent_requests": 1}), ("b", {"requests_per_minute": 1}))
    ]
    first, second = ([("authorization", f"Bearer {name}")] for name in "ab")
    async with running(models=[SLOW, ECHO | {"name": "quick"}], keys=keys) as client:
        async with client.open(*CHAT, **chat_request(headers=first)) as one:
            await until(lambda: backend_of(client).status().running == 1)
            full = await client.chat(headers=first, model="quick")
            other = await client.chat(headers=second, model="quick")
            one.disconnect()
        again = await client.chat(headers=first, model="quick")
        over = await client.chat(headers=second, model="quick")
        listed = await client.get("/v1/models", headers=second)
    assert [reply.status for reply in (full, other, again, over, listed)] == [429, 200, 200, 429, 200]
    assert full.error["type"] == over.error["type"] == "rate_limit_error"
    assert 55 < int(over.headers["retry-after"]) <= 60
    assert rates(again) == rates(listed) == {}
    assert set(rates(over)) == set(rates(other))


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_a_reply_tells_the_rates_and_counts_its_tokens(stream: bool) -> None:
    limits = {"key_requests_per_minute": 100, "key_tokens_per_minute": 100}
    async with running(limits=limits) as client:
        more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        first = await client.chat("hello " * 10, **more)
        used = (first.chunks[-1] if stream else first.json())["usage"]["total_tokens"]
        second = await client.chat()
        bad = await client.chat(temperature=9)
    assert used > 100
    assert int(rates(first)["x-ratelimit-remaining-tokens"]) == (100 if stream else 0)
    assert rates(first)["x-ratelimit-limit-tokens"] == rates(first)["x-ratelimit-limit-requests"] == "100"
    assert rates(first)["x-ratelimit-remaining-requests"] == "99"
    assert second.status == bad.status == 429
    assert "100 tokens per minute" in second.error["message"]
    assert int(second.headers["retry-after"]) == pytest.approx(math.ceil((used - 100 + 1) * 0.6), abs=1)


@pytest.mark.anyio
async def test_a_stream_that_its_client_left_is_counted_too() -> None:
    models = [ECHO | {"engine": {"tokens_per_second": 1000}}]
    async with running(models=models, limits={"key_tokens_per_minute": 30}) as client:
        async with client.open(*CHAT, **chat_request("hello " * 50, stream=True)) as one:
            await one.until(4)
            one.disconnect()
        assert (await client.chat()).status == 429


@pytest.mark.anyio
async def test_embeddings_count_their_tokens() -> None:
    models = [{"name": "e", "task": "embedding", "backend": "hash_embeddings:HashEmbeddings"}]
    async with running(models=models, limits={"key_tokens_per_minute": 1000}) as client:
        reply = await client.request("POST", "/v1/embeddings", json={"model": "e", "input": ["one text", "another"]})
    used = reply.json()["usage"]["total_tokens"]
    assert used == 3
    assert rates(reply)["x-ratelimit-remaining-tokens"] == str(1000 - used)


@pytest.mark.anyio
async def test_what_no_engine_saw_costs_a_request_but_no_tokens() -> None:
    async with running(limits={"key_requests_per_minute": 100, "key_tokens_per_minute": 100}) as client:
        bad = await client.chat(temperature=9)
    assert bad.status == 400
    assert rates(bad)["x-ratelimit-remaining-requests"] == "99"
    assert rates(bad)["x-ratelimit-remaining-tokens"] == "100"


@pytest.mark.anyio
async def test_what_was_refused_is_counted_by_its_limit() -> None:
    app = running(models=[SLOW], limits={"key_concurrent_requests": 1})
    async with app as client, client.open(*CHAT, **chat_request()) as one:
        await until(lambda: backend_of(client).status().running == 1)
        for _ in range(2):
            assert (await client.chat()).status == 429
        text = (await client.get("/metrics")).text
        one.disconnect()
    assert 'ark:requests_refused_total{reason="concurrent_requests"} 2.0' in text
    assert "ark:requests_in_hand 1.0" in text


@pytest.mark.anyio
async def test_a_route_without_a_body_takes_a_small_one() -> None:
    async with running() as client:
        small = await client.get("/v1/models", body=b"x" * 1000)
        large = await client.get("/v1/models", body=b"x" * 70_000, headers=[("content-length", "70000")])
    assert (small.status, large.status) == (200, 413)


@pytest.mark.anyio
async def test_too_many_messages() -> None:
    message = {"role": "user", "content": "a"}
    async with running(limits={"messages": 3, "json_depth": 5}) as client:
        whole = await client.chat(messages=[message] * 3)
        more = await client.chat(messages=[message] * 4)
        deep = await client.chat(metadata=[[[[[1]]]]])
    assert whole.status == 200
    assert more.status == 400
    assert (more.error["param"], more.error["code"]) == ("messages", "array_above_max_length")
    assert (deep.status, deep.error["code"]) == (400, "invalid_json")


@pytest.mark.anyio
async def test_a_place_is_not_lost_when_a_client_leaves_in_its_body() -> None:
    async with running(limits={"concurrent_requests": 1}) as client:
        for _ in range(3):
            async with client.open(*CHAT, body=b'{"model"', ends=False) as request:
                await anyio.sleep(0.01)
                request.disconnect()
        assert client.app.services.limiter.running == 0
