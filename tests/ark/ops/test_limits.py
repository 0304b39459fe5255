"""How much a key may ask of the server."""

from __future__ import annotations

import hashlib
import math
from contextlib import AsyncExitStack, ExitStack, suppress
from typing import Any

import anyio
import pytest
from asgi_client import ECHO, Client, Response, backend_of, chat_request, running, until
from hypothesis import given
from hypothesis import strategies as st

from ark.config import KeyConfig, LimitsConfig
from ark.errors import APIError, TooManyRequests, Unavailable
from ark.ops.limits import Bucket, Limiter, duration

SLOW = ECHO | {"engine": {"prefill_seconds": 10.0}}
CHAT = ("POST", "/v1/chat/completions")


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def refused(limiter: Limiter, key: KeyConfig | None = None) -> APIError:
    with pytest.raises((TooManyRequests, Unavailable)) as caught, limiter.admit(key):
        pass
    return caught.value


def key_config(name: str = "one", **limits: int) -> KeyConfig:
    return KeyConfig(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), **limits)


@given(
    st.integers(1, 10_000),
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5000)), max_size=20),
    st.floats(0.001, 1),
)
def test_a_bucket_gives_no_more_than_its_rate_and_is_true_about_the_wait(
    per_minute: int, uses: list[tuple[float, float]], share: float
) -> None:
    bucket = Bucket(per_minute, 0.0)
    now = taken = 0.0
    for pause, units in uses:
        now += pause
        if not bucket.wait(1, now):
            bucket.take(units, now)
            taken += units
            # Only the last use may have gone into debt.
            assert taken - units <= per_minute * (1 + now / 60) + 1e-3
        else:
            wait = bucket.wait(1, now)
            assert bucket.wait(1, now + wait) == 0
            assert wait < 0.01 or bucket.wait(1, now + wait * share * 0.99) > 0
    assert bucket.level(now + 1e9) == per_minute


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (-1, "0s"),
        (0.0001, "1ms"),
        (0.02, "20ms"),
        (0.9991, "1s"),
        (1, "1s"),
        (1.5, "1.5s"),
        (8.64, "8.64s"),
        (59.9999, "1m0s"),
        (60, "1m0s"),
        (360, "6m0s"),
        (3600.25, "1h0m0.25s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_requests_per_minute() -> None:
    clock = Hands()
    limiter = Limiter(LimitsConfig(key_requests_per_minute=3), clock)
    for remaining, reset in ((2, "20s"), (1, "40s"), (0, "1m0s")):
        with limiter.admit(None) as account:
            assert dict(account.headers()) == {
                "x-ratelimit-limit-requests": "3",
                "x-ratelimit-remaining-requests": str(remaining),
                "x-ratelimit-reset-requests": reset,
            }
    clock.now += 6.25
    error = refused(limiter)
    assert error.status == 429
    assert error.code == "rate_limit_exceeded"
    assert "3 requests per minute" in error.message
    assert error.headers["retry-after"] == "14"
    assert error.headers["retry-after-ms"] == "13750"
    assert error.headers["x-ratelimit-remaining-requests"] == "0"
    clock.now += 13.749
    assert refused(limiter).reason == "requests_per_minute"
    clock.now += 0.001
    with limiter.admit(None):
        pass


@given(st.integers(1, 100_000), st.floats(0, 1e9), st.floats(0, 60), st.integers(0, 10**6))
def test_a_client_that_waits_as_long_as_it_is_told_gets_in(rate: int, start: float, pause: float, cost: int) -> None:
    clock = Hands()
    clock.now = start
    key = key_config(requests_per_minute=rate, tokens_per_minute=rate)
    limiter = Limiter(LimitsConfig(), clock)
    with limiter.admit(key) as account:
        account.spend(cost)
    for _ in range(3):
        clock.now += pause
        try:
            with limiter.admit(key) as account:
                account.spend(cost)
            continue
        except TooManyRequests as error:
            told = error.headers
        assert int(told["retry-after"]) * 1000 >= int(told["retry-after-ms"])
        clock.now += int(told["retry-after-ms"]) / 1000
        with limiter.admit(key):
            pass


def test_tokens_are_counted_behind_the_reply_and_paid_back() -> None:
    clock = Hands()
    limiter = Limiter(LimitsConfig(key_tokens_per_minute=60), clock)
    with limiter.admit(None) as first, limiter.admit(None) as second:
        # Both are admitted: nobody knows yet what they will cost.
        assert dict(first.headers())["x-ratelimit-remaining-tokens"] == "60"
        first.spend(100)
        second.spend(50)
        assert dict(second.headers())["x-ratelimit-remaining-tokens"] == "0"
        assert dict(second.headers())["x-ratelimit-reset-tokens"] == "2m30s"
    error = refused(limiter)
    assert "60 tokens per minute" in error.message
    assert error.headers["retry-after"] == "91"
    clock.now += 90.9
    refused(limiter)
    clock.now += 0.1
    with limiter.admit(None):
        pass


def test_a_refused_request_counts_for_nothing() -> None:
    clock = Hands()
    key = key_config(requests_per_minute=2, tokens_per_minute=60)
    limiter = Limiter(LimitsConfig(), clock)
    with limiter.admit(key) as account:
        account.spend(61)
    for _ in range(5):
        assert "tokens" in refused(limiter, key).message
    clock.now += 2
    with limiter.admit(key):
        pass


def test_a_keys_own_limits_stand_before_the_general_ones() -> None:
    limiter = Limiter(LimitsConfig(key_requests_per_minute=1, key_concurrent_requests=1), Hands())
    plain, wide = key_config("plain"), key_config("wide", requests_per_minute=2)
    free = key_config("free", requests_per_minute=0, concurrent_requests=0)
    with limiter.admit(plain):
        assert "1 requests at once" in refused(limiter, plain).message
        with limiter.admit(wide):
            pass
        with limiter.admit(wide):
            pass
        refused(limiter, wide)
        with ExitStack() as held:
            for _ in range(20):
                assert held.enter_context(limiter.admit(free)).headers() == []
    refused(limiter, plain)


def test_a_key_whose_limits_change_keeps_what_it_used() -> None:
    clock = Hands()
    limiter = Limiter(LimitsConfig(), clock)
    for _ in range(10):
        with limiter.admit(key_config(requests_per_minute=10)):
            pass
    assert refused(limiter, key_config(requests_per_minute=60)).headers["retry-after"] == "1"
    with limiter.admit(key_config()):
        pass
    # Switched off and on again it begins anew.
    with limiter.admit(key_config(requests_per_minute=1)):
        refused(limiter, key_config(requests_per_minute=1))


def test_a_place_is_free_again_however_the_request_ended() -> None:
    limiter = Limiter(LimitsConfig(concurrent_requests=1, key_concurrent_requests=1), Hands())
    for _ in range(2):
        with suppress(KeyError), limiter.admit(None):
            assert refused(limiter).code == "overloaded"
            raise KeyError
    assert limiter.running == 0


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


def test_a_key_may_take_a_part_of_the_places_where_nothing_else_is_said() -> None:
    limiter = Limiter(LimitsConfig(concurrent_requests=8), Hands())
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(limiter.admit(key_config("one")))
        assert "2 requests at once" in refused(limiter, key_config("one")).message
        for _ in range(6):
            held.enter_context(limiter.admit(None))


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
