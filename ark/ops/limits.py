"""Limits of API keys: requests at once, and requests and tokens per minute.

Rates are token buckets: each holds what a minute allows, and refills steadily. A request takes one from the bucket of
requests when it is admitted. The cost of a reply is known only afterwards: admission needs one token in the bucket of
tokens, running replies may overdraw it, and the next request waits until it has refilled. Tokens are those of `usage`,
cached ones included, so that a key's rate does not depend on what happens to be in memory.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from ark.config import KeyConfig, LimitsConfig
from ark.errors import APIError, TooManyRequests, Unavailable

Clock = Callable[[], float]

BUSY_RETRY = 1.0
"""Seconds after which a client may try again when all places are taken: when one becomes free is not known."""

KEY_SHARE = 1 / 4
"""Of the server's places: those that one key may take where nothing else is configured."""

_ROUNDING = 1e-6
"""Seconds: a client that waits exactly as long as the reply says must not fail by a floating point's last bit."""


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

    def __init__(self, clock: Clock) -> None:
        self.key: KeyConfig | None = None
        """Whose limits hold; None on an open server."""
        self.places = 0
        """Requests that may be served at once; 0 for no limit."""
        self.running = 0
        """Requests that are being served."""
        self.buckets: dict[str, Bucket] = {}
        """Of ``requests`` and ``tokens``, as far as they are limited."""
        self._clock = clock

    def set_rates(self, **rates: int) -> None:
        """Units each minute; 0 for no limit."""
        for name, per_minute in rates.items():
            bucket = self.buckets.get(name)
            if per_minute == 0:
                self.buckets.pop(name, None)
            elif bucket is None:
                self.buckets[name] = Bucket(per_minute, self._clock())
            elif bucket.per_minute != per_minute:
                bucket.resize(per_minute, self._clock())

    def spend(self, units: int, name: str = "tokens") -> None:
        """Count what a reply cost, however it ended."""
        if name in self.buckets:
            self.buckets[name].take(units, self._clock())

    def headers(self) -> list[tuple[str, str]]:
        """The ``x-ratelimit-`` headers of OpenAI's replies."""
        headers: list[tuple[str, str]] = []
        for name, bucket in self.buckets.items():
            now = self._clock()
            headers += [
                (f"x-ratelimit-limit-{name}", str(bucket.per_minute)),
                (f"x-ratelimit-remaining-{name}", str(max(0, math.floor(bucket.level(now) + _ROUNDING)))),
                (f"x-ratelimit-reset-{name}", duration(bucket.wait(bucket.per_minute, now))),
            ]
        return headers


class Place:
    """A place that a request has taken, until the block ends or it leaves."""

    def __init__(self, account: Account, leave: Callable[[], None]) -> None:
        self.account = account
        """Where the request's cost is counted."""
        self.leave = leave

    def __enter__(self) -> Account:
        return self.account

    def __exit__(self, *_: object) -> None:
        self.leave()


class Limiter:
    """Admits the requests of one running server that need an engine."""

    def __init__(self, config: LimitsConfig, clock: Clock = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._bodies: Counter[tuple[str, str | None]] = Counter()
        """On the way, by the client's address or the key."""
        self.running = 0
        """Requests that are being served."""

    def admit(self, key: KeyConfig | None) -> Place:
        """Admit one request.

        Raises Unavailable when the whole server is full, and TooManyRequests when the key has reached one of its
        limits. A refused request does not count.
        """
        account = self._check(key)
        account.spend(1, "requests")
        self.running += 1
        account.running += 1
        return Place(account, partial(self._leave, account))

    def hold(self, key: KeyConfig | None) -> Place:
        """A place for work that goes on after its request, which was admitted, has been answered."""
        account = self._account(key)
        self.running += 1
        account.running += 1
        return Place(account, partial(self._leave, account))

    def admit_body(self, key: KeyConfig | None, address: str) -> Place:
        """Let one request send its body.

        A body takes no place among the running requests, however slowly it comes. A key, or without keys an address,
        may have as many on the way as it may have requests at once. Raises what `admit` does.
        """
        account = self._check(key)
        sender = (address, None) if key is None else ("", key.name)
        limit = account.places or self._config.concurrent_requests
        if self._bodies[sender] >= limit:
            message = f"The limit of {limit} requests whose bodies are on the way is reached."
            raise _refused("bodies", TooManyRequests(message, retry_after=BUSY_RETRY), account)
        self._bodies[sender] += 1
        return Place(account, partial(self._leave_body, sender))

    def _leave(self, account: Account) -> None:
        self.running -= 1
        account.running -= 1

    def _leave_body(self, sender: tuple[str, str | None]) -> None:
        self._bodies[sender] -= 1
        if not self._bodies[sender]:
            del self._bodies[sender]

    def _check(self, key: KeyConfig | None) -> Account:
        """A key's account. Raises as `admit` says."""
        account = self._account(key)
        refusal = self._refusal(account)
        if refusal is not None:
            raise _refused(*refusal, account)
        return account

    def _refusal(self, account: Account) -> tuple[str, APIError] | None:
        """The limit that a request of this account would exceed, and the error for its client."""
        places = account.places
        if self.running >= self._config.concurrent_requests:
            message = "The server has too many requests at the moment."
            return "server", Unavailable(message, retry_after=BUSY_RETRY, code="overloaded")
        if places and account.running >= places:
            message = f"The limit of {places} requests at once is reached."
            return "concurrent_requests", TooManyRequests(message, retry_after=BUSY_RETRY)
        if not account.buckets:
            return None
        now = self._clock()
        waits = [(bucket.wait(1, now), name, bucket.per_minute) for name, bucket in account.buckets.items()]
        # The longer one: a client that waits only for the other would be refused again.
        wait, name, rate = max(waits)
        if wait:
            message = f"The limit of {rate} {name} per minute is reached. Try again in {duration(wait)}."
            return f"{name}_per_minute", TooManyRequests(message, retry_after=wait)
        return None

    def _account(self, key: KeyConfig | None) -> Account:
        """A key's account, with the limits that hold for it now: those of a key may have changed."""
        name = "" if key is None else key.name
        account = self._accounts.get(name)
        if account is not None and account.key is key:
            return account

        def limit(name: str) -> int:
            own = None if key is None else getattr(key, name)
            found: int | None = getattr(self._config, f"key_{name}") if own is None else own
            if found is None:
                found = 0 if key is None else math.ceil(self._config.concurrent_requests * KEY_SHARE)
            return found

        account = self._accounts.setdefault(name, Account(self._clock))
        account.key, account.places = key, limit("concurrent_requests")
        account.set_rates(requests=limit("requests_per_minute"), tokens=limit("tokens_per_minute"))
        return account


def _refused(limit: str, error: APIError, account: Account) -> APIError:
    error.reason = limit
    error.headers.update(account.headers())
    return error


def duration(seconds: float) -> str:
    """``6m0s``, ``1.5s``, ``20ms``: as OpenAI's headers write a time, rounded up to milliseconds."""
    ms = math.ceil(seconds * 1000 - _ROUNDING)
    if ms <= 0:
        return "0s"
    if ms < 1000:
        return f"{ms}ms"
    minutes, rest = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest / 1000:g}s"
