"""Limits of API keys: requests at once, and requests and tokens per minute.

Rates are token buckets: each holds what a minute allows, and refills steadily. A request takes one from the bucket of
requests when it is admitted. The cost of a reply is known only behind it, so admission needs one token in the bucket of
tokens, running replies may overdraw it, and the next request waits until it has refilled. Tokens are those of `usage`,
cached ones included, so that a key's rate does not depend on what happens to be in memory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ark.config import KeyConfig, LimitsConfig
from ark.errors import APIError, TooManyRequests, Unavailable

Clock = Callable[[], float]

BUSY_RETRY = 1.0
"""Seconds after which a client may try again when all places are taken: when one becomes free is not known."""

_ROUNDING = 1e-6
"""Seconds: a client that waited exactly as long as it was told must not fail by a floating point's last bit."""


class Bucket:
    """Holds at most `per_minute` units, and gets as many each minute. Times are in seconds of any one clock."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def level(self, now: float) -> float:
        """Units in it; negative while it is overdrawn."""
        return min(float(self.per_minute), self._level + (now - self._at) * self.per_minute / 60)

    def take(self, units: float, now: float) -> None:
        self._level, self._at = self.level(now) - units, now

    def wait(self, units: float, now: float) -> float:
        """Seconds until there are so many units; 0 when there are."""
        seconds = (units - self.level(now)) * 60 / self.per_minute
        return seconds if seconds > _ROUNDING else 0.0

    def resize(self, per_minute: int, now: float) -> None:
        """Change the rate; units that have been used stay used."""
        self._level, self._at = min(self.level(now), float(per_minute)), now
        self.per_minute = per_minute


class Account:
    """What one key has used; on an open server, what everyone has."""

    def __init__(self) -> None:
        self.running = 0
        """Requests that are being served."""
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None

    def set_rates(self, requests: int, tokens: int, now: float) -> None:
        """Units each minute, 0 for no limit."""
        self.requests = _rated(self.requests, requests, now)
        self.tokens = _rated(self.tokens, tokens, now)

    def headers(self, now: float) -> list[tuple[str, str]]:
        """The ``x-ratelimit-`` headers of OpenAI's replies."""
        headers: list[tuple[str, str]] = []
        for name, bucket in (("requests", self.requests), ("tokens", self.tokens)):
            if bucket is not None:
                headers += [
                    (f"x-ratelimit-limit-{name}", str(bucket.per_minute)),
                    (f"x-ratelimit-remaining-{name}", str(max(0, math.floor(bucket.level(now) + _ROUNDING)))),
                    (f"x-ratelimit-reset-{name}", duration(bucket.wait(bucket.per_minute, now))),
                ]
        return headers


class Admission:
    """A request that was admitted, until it has been answered."""

    def __init__(self, account: Account, clock: Clock) -> None:
        self._account = account
        self._clock = clock

    def spend(self, tokens: int) -> None:
        """Count what a reply cost, however it ended."""
        if self._account.tokens is not None:
            self._account.tokens.take(tokens, self._clock())

    def headers(self) -> list[tuple[str, str]]:
        return self._account.headers(self._clock())


class Limiter:
    """Admits the requests of one running server that need an engine."""

    def __init__(self, config: LimitsConfig, clock: Clock = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self.running = 0
        """Requests that are being served."""

    @contextmanager
    def admit(self, key: KeyConfig | None) -> Iterator[Admission]:
        """Admit one request, until the block ends.

        Raises Unavailable when the whole server is full, and TooManyRequests when the key has reached one of its
        limits. A refused request does not count.
        """
        account, places = self._account(key)
        now = self._clock()
        refusal = self._refusal(account, places, now)
        if refusal is not None:
            limit, error = refusal
            error.reason = limit
            error.headers.update(account.headers(now))
            raise error
        if account.requests is not None:
            account.requests.take(1, now)
        self.running += 1
        account.running += 1
        try:
            yield Admission(account, self._clock)
        finally:
            self.running -= 1
            account.running -= 1

    def _refusal(self, account: Account, places: int, now: float) -> tuple[str, APIError] | None:
        """The limit that a request of this account would exceed, and the error for its client."""
        if self.running >= self._config.concurrent_requests:
            message = "The server has too many requests at the moment."
            return "server", Unavailable(message, retry_after=BUSY_RETRY, code="overloaded")
        if places and account.running >= places:
            message = f"The limit of {places} requests at once is reached."
            return "concurrent_requests", TooManyRequests(message, retry_after=BUSY_RETRY)
        waits = [
            (bucket.wait(1, now), name, bucket.per_minute)
            for name, bucket in (("requests", account.requests), ("tokens", account.tokens))
            if bucket is not None
        ]
        # The longer one: a client that waits only for the other would be refused again.
        wait, name, rate = max(waits, default=(0.0, "", 0))
        if wait:
            message = f"The limit of {rate} {name} per minute is reached. Try again in {duration(wait)}."
            return f"{name}_per_minute", TooManyRequests(message, retry_after=wait)
        return None

    def _account(self, key: KeyConfig | None) -> tuple[Account, int]:
        """A key's account, with the rates that hold for it now, and how many requests it may have running."""
        config = self._config
        own: tuple[int | None, int | None, int | None] = (None, None, None)
        if key is not None:
            own = (key.requests_per_minute, key.tokens_per_minute, key.concurrent_requests)
        general = (config.key_requests_per_minute, config.key_tokens_per_minute, config.key_concurrent_requests)
        requests, tokens, places = (
            limit if chosen is None else chosen for chosen, limit in zip(own, general, strict=True)
        )
        account = self._accounts.setdefault("" if key is None else key.name, Account())
        account.set_rates(requests, tokens, self._clock())
        return account, places


def _rated(bucket: Bucket | None, per_minute: int, now: float) -> Bucket | None:
    if per_minute == 0:
        return None
    if bucket is None:
        return Bucket(per_minute, now)
    if bucket.per_minute != per_minute:
        bucket.resize(per_minute, now)
    return bucket


def duration(seconds: float) -> str:
    """``6m0s``, ``1.5s``, ``20ms``: as OpenAI's headers write a time, rounded up to milliseconds."""
    ms = math.ceil(seconds * 1000 - _ROUNDING)
    if ms <= 0:
        return "0s"
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
