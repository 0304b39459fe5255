"""How much a key may ask of the server."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ark.config import KeyConfig, LimitsConfig
from ark.errors import APIError, TooManyRequests, Unavailable
from ark.ops.limits import Bucket, Limiter, duration


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


def test_a_key_may_take_a_part_of_the_places_where_nothing_else_is_said() -> None:
    limiter = Limiter(LimitsConfig(concurrent_requests=8), Hands())
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(limiter.admit(key_config("one")))
        assert "2 requests at once" in refused(limiter, key_config("one")).message
        for _ in range(6):
            held.enter_context(limiter.admit(None))
