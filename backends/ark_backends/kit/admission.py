"""Which jobs are inside an engine, whether more may come, and how those that left have ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Literal

from ark.errors import APIError, Unavailable
from ark_backends.kit.results import ResultQueue

Outcome = Literal["finished", "cancelled", "failed"]


class AdmissionQueue:
    """The jobs inside an engine, each known by the queue of its results. Used from any thread."""

    def __init__(self, **limits: int) -> None:
        """`limits` has, by name, how much of something all jobs may take together, such as requests or inputs."""
        self._limits = limits
        self._lock = threading.Lock()
        self._inside: dict[ResultQueue[Any], dict[str, int]] = {}
        self._owners: dict[ResultQueue[Any], str] = {}
        self._outcomes: dict[Outcome, int] = {"finished": 0, "cancelled": 0, "failed": 0}
        # Makes the error of those who come now. Each gets its own: an exception that is raised again keeps the frames
        # of all who raised it, and with them their requests.
        self._closed: Callable[[], APIError] | None = None

    def __len__(self) -> int:
        return len(self._inside)

    @property
    def open(self) -> bool:
        return self._closed is None

    @property
    def outcomes(self) -> dict[str, int]:
        """The counters of an engine's status: how the jobs that left have ended."""
        return {f"jobs_{outcome}": count for outcome, count in self._outcomes.items()}

    def taken(self, name: str) -> int:
        """How much of a limit the jobs inside take together."""
        with self._lock:
            return self._taken(name)

    def enter(self, results: ResultQueue[Any], owner: str = "", **amounts: int) -> bool:
        """Let a job in that takes these amounts; False where a limit has no room for them. A job that is alone in what
        it takes always has room, and so has one whose owner takes no more than an equal part of the limit: nobody can
        fill the queue for everybody else. Raises the reason when the queue is closed."""
        with self._lock:
            if self._closed is not None:
                raise self._closed()
            if not (self._fits(amounts) or self._is_share(owner, amounts)):
                return False
            self._inside[results], self._owners[results] = amounts, owner
            return True

    def extend(self, results: ResultQueue[Any], **amounts: int) -> bool:
        """Let a job that is inside take more; False where there is no room."""
        with self._lock:
            if not self._fits(amounts):
                return False
            # One that has left meanwhile would never give it back.
            if results in self._inside:
                self._inside[results].update(amounts)
            return True

    def leave(self, results: ResultQueue[Any], outcome: Outcome | None) -> bool:
        """Take a job out, and count how it ended; False when it has left already."""
        with self._lock:
            left = self._inside.pop(results, None) is not None
            self._owners.pop(results, None)
            if left and outcome is not None:
                self._outcomes[outcome] += 1
            return left

    def close(self, reason: Callable[[], APIError]) -> None:
        """Let nobody in any more. The first reason stays."""
        with self._lock:
            if self._closed is None:
                self._closed = reason

    def clear(self) -> list[tuple[ResultQueue[Any], APIError]]:
        """Close, and take out all jobs as failed, each with the error it gets."""
        self.close(engine_failed)
        with self._lock:
            left, self._inside = list(self._inside), {}
            self._owners.clear()
            self._outcomes["failed"] += len(left)
            reason = self._closed or engine_failed
        return [(results, reason()) for results in left]

    def _fits(self, amounts: dict[str, int]) -> bool:
        for name, amount in amounts.items():
            taken = self._taken(name)
            if taken and taken + amount > self._limits[name]:
                return False
        return True

    def _is_share(self, owner: str, amounts: dict[str, int]) -> bool:
        owners = {*self._owners.values(), owner}
        own = [self._inside[results] for results, other in self._owners.items() if other == owner]
        return len(owners) > 1 and all(
            sum(one.get(name, 0) for one in own) + amount <= self._limits[name] // len(owners)
            for name, amount in amounts.items()
        )

    def _taken(self, name: str) -> int:
        return sum(amounts.get(name, 0) for amounts in self._inside.values())


def engine_closed() -> APIError:
    """The error of those who come to an engine that has been closed, or still wait for it."""
    return Unavailable("The model is being unloaded.", code="engine_closed")


def engine_failed() -> APIError:
    """The error of those who come to an engine that has died, or still wait for it."""
    return Unavailable("The model's engine has failed.", code="engine_failed")


def request_failed() -> Unavailable:
    """The error of one request that the engine failed on; the log says more."""
    return Unavailable("The model's engine failed on this request.", code="engine_failed")
