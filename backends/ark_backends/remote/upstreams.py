"""The engines that serve one model: which are well, and which one gets a job."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from ark.engines.backend import UpstreamStatus

log = logging.getLogger("ark.remote")

LONGEST_INTERVAL = 60.0
"""Seconds between two checks of an engine that does not answer, at most."""

MAX_REMEMBERED = 100_000
"""Conversations and beginnings of prompts of which it is remembered where they are."""

BLOCK = 64
"""Tokens by which one beginning of a prompt is longer than another."""

BUSIER, MORE = 2, 4
"""A prompt goes where its beginning is known to an engine with at most so many times the jobs of another one, and so
many more."""


class Unfit(Exception):
    """An engine does not answer, or not as the model's."""


class Silent(Unfit):
    """An engine has taken a question and not answered it."""


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
        self._places: OrderedDict[str | bytes, Upstream] = OrderedDict()
        """Where conversations are, and beginnings of prompts."""

    def choose(self, session: str | None, beginnings: Sequence[bytes], tried: Collection[Upstream]) -> Upstream | None:
        """The engine for a job; None where none is well that has not been tried and has room.

        A conversation stays where it was. Another one, as one that was rewound, goes where most of its prompt is known,
        unless that engine has far more to do than others. What is new is spread by rendezvous hashing: it goes to that
        of all engines whose hash with its name is highest, so that where one goes down no others move.
        """
        fit = [one for one in self.all if one.up and one not in tried and one.waiting < self._max_waiting]
        if len(fit) < 2:
            return fit[0] if fit else None
        place = None if session is None else self._places.get(session)
        if place in fit:
            return place
        for number in range(len(beginnings), len(beginnings) // 2, -1):
            place = self._places.get(beginnings[number - 1])
            if place in fit:
                if place.running <= BUSIER * min(one.running for one in fit) + MORE:
                    return place
                break
        name = session or (beginnings[0].hex() if beginnings else "")
        return max(fit, key=lambda one: hashlib.blake2b(f"{one.url}\0{name}".encode(), digest_size=8).digest())

    def is_at(self, session: str | None, upstream: Upstream) -> bool:
        """Whether a conversation had its last turn at an engine."""
        return session is not None and self._places.get(session) is upstream

    def stay(self, session: str | None, beginnings: Sequence[bytes], upstream: Upstream) -> None:
        """Remember where a job's state is."""
        for name in (*beginnings, *(() if session is None else (session,))):
            self._places[name] = upstream
            self._places.move_to_end(name)
        while len(self._places) > MAX_REMEMBERED:
            self._places.popitem(last=False)

    def forget(self, session: str) -> None:
        self._places.pop(session, None)


def beginnings(owner: str, prompt: Sequence[int]) -> list[bytes]:
    """Names of the beginnings of a prompt, each a block longer than the one before."""
    data, found = array("q", prompt).tobytes(), []
    hashed = hashlib.blake2b(owner.encode(), digest_size=16)
    for start in range(0, len(data) - 8 * BLOCK + 1, 8 * BLOCK):
        hashed.update(data[start : start + 8 * BLOCK])
        found.append(hashed.digest())
    return found


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

    def check_all(self) -> None:
        for upstream in self._upstreams:
            self.check(upstream)

    def check(self, upstream: Upstream) -> None:
        """Ask one engine, and note what it says."""
        try:
            (self._ask if upstream.up else self._join)(upstream.url)
        except Unfit as error:
            if isinstance(error, Silent) and upstream.up and (upstream.running or not upstream.failures):
                # It may be busy: llama.cpp's server answers nobody while all its threads have jobs. These see it if it
                # is gone.
                upstream.failures += 1
                upstream.due = time.monotonic() + self._interval / 5
                return
            if upstream.up:
                upstream.failures = 0
            (log.debug if upstream.failures else log.warning)("%s is down: %s", upstream.url, error)
            upstream.up = False
            upstream.due = time.monotonic() + min(LONGEST_INTERVAL, self._interval / 5 * 2**upstream.failures)
            upstream.failures = min(upstream.failures + 1, 10)
            return
        if not upstream.up:
            log.info("%s is up", upstream.url)
        upstream.up, upstream.failures = True, 0
        upstream.due = time.monotonic() + self._interval
