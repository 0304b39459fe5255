"""The engines that serve one model: which are well, and which one gets a job."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from ark.engines.backend import UpstreamStatus

log = logging.getLogger("ark.remote")

LONGEST_INTERVAL = 60.0
"""Seconds between two checks of an engine that does not answer, at most."""

MAX_REMEMBERED = 100_000
"""Conversations of which it is remembered where they are; of others the hash says it."""


class Unfit(Exception):
    """An engine does not answer, or not as the model's."""


@dataclass(eq=False)
class Upstream:
    """One engine. The event loop counts, the thread of `HealthChecks` says whether it is well, and both when it is
    not."""

    url: str
    up: bool = False
    running: int = 0
    """Jobs there."""
    waiting: int = 0
    """Of them, those without a token so far."""
    jobs: dict[str, int] = field(default_factory=lambda: {"finished": 0, "cancelled": 0, "failed": 0})
    failures: int = 0
    """Checks that failed since it was well."""
    due: float = 0.0
    """When it is to be checked again, by the monotonic clock."""

    def fail(self, reason: object) -> None:
        """It has failed a job."""
        if self.up:
            log.warning("%s is down: %s", self.url, reason)
        self.up = False
        self.due = time.monotonic()

    def status(self) -> UpstreamStatus:
        return UpstreamStatus(url=self.url, up=self.up, running=self.running, **self.jobs)


class Upstreams:
    """Chooses an engine for each job. A conversation stays where its state is."""

    def __init__(self, urls: Sequence[str], max_waiting: int) -> None:
        """`max_waiting`: jobs without a token that an engine may have; more go elsewhere."""
        self.all = [Upstream(url) for url in dict.fromkeys(urls)]
        self._max_waiting = max_waiting
        self._places: OrderedDict[str, Upstream] = OrderedDict()

    def choose(self, session: str | None, key: str, tried: Collection[Upstream]) -> Upstream | None:
        """The engine for a job of a conversation, or of a `key` that similar jobs share; None where none is well that
        has not been tried and has room.

        By rendezvous hashing: of all that are well the one whose hash with the key is highest. When one goes down its
        conversations spread over the others, and no others move.
        """
        fit = [one for one in self.all if one.up and one not in tried and one.waiting < self._max_waiting]
        if not fit:
            return None
        place = None if session is None else self._places.get(session)
        return place if place in fit else max(fit, key=lambda one: _score(one.url, session or key))

    def is_at(self, session: str | None, upstream: Upstream) -> bool:
        """Whether a conversation had its last turn at an engine."""
        return session is not None and self._places.get(session) is upstream

    def stay(self, session: str | None, upstream: Upstream) -> None:
        """Remember where a conversation is."""
        if session is None:
            return
        self._places[session] = upstream
        self._places.move_to_end(session)
        if len(self._places) > MAX_REMEMBERED:
            self._places.popitem(last=False)

    def forget(self, session: str) -> None:
        self._places.pop(session, None)


def _score(url: str, key: str) -> bytes:
    return hashlib.blake2b(f"{url}\0{key}".encode(), digest_size=8).digest()


class HealthChecks:
    """A thread that asks the engines how they are: those that are well at an interval, others at growing ones."""

    def __init__(
        self, upstreams: Sequence[Upstream], interval: float, ask: Callable[[str], None], join: Callable[[str], None]
    ) -> None:
        """`ask` asks an engine that is well, and `join` also whether one that was not serves this model. Both raise
        Unfit."""
        self._upstreams = upstreams
        self._interval = interval
        self._ask = ask
        self._join = join
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="ark-remote-health", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Check now what is due."""
        self._wake.set()

    def close(self) -> None:
        self._stopped = True
        self._wake.set()

    def _run(self) -> None:
        while not self._stopped:
            for upstream in self._upstreams:
                if upstream.due <= time.monotonic() and not self._stopped:
                    self.check(upstream)
            self._wake.wait(max(0.0, min(upstream.due for upstream in self._upstreams) - time.monotonic()))
            self._wake.clear()

    def check(self, upstream: Upstream) -> None:
        """Ask one engine, and note what it says."""
        try:
            (self._ask if upstream.up else self._join)(upstream.url)
        except Unfit as error:
            (log.warning if upstream.up or not upstream.failures else log.debug)("%s is down: %s", upstream.url, error)
            upstream.up = False
            upstream.due = time.monotonic() + min(LONGEST_INTERVAL, self._interval / 5 * 2**upstream.failures)
            upstream.failures = min(upstream.failures + 1, 10)
            return
        if not upstream.up:
            log.info("%s is up", upstream.url)
        upstream.up, upstream.failures = True, 0
        upstream.due = time.monotonic() + self._interval
