"""The thread that every engine computes on, and the ways into it and out of it.

Importing this module imports no engine's library.
"""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from ark.errors import APIError
from ark_backends.kit.admission import AdmissionQueue, engine_closed
from ark_backends.kit.results import ResultBuffer, ResultQueue

log = logging.getLogger("ark.engine")

MAX_FAILURES = 5
"""Failed steps in a row after which an engine gives up: a broken device does not come back by trying."""

J = TypeVar("J")
R = TypeVar("R")


class Engine(ABC, Generic[J, R]):
    """Runs jobs of type J, which give results of type R, on a thread of its own.

    A job takes a place in the admission queue and is submitted. Its results arrive in its `ResultQueue`, until it is
    over or cancelled. Public methods may be called from any thread; the queue is made on the consumer's event loop.

    The thread repeats three things: it runs what other threads have asked for, it computes a step, and it hands out
    the results. A subclass says what a step is. Whatever the thread ends for, everybody who waits gets an error.
    """

    def __init__(self, name: str, **limits: int) -> None:
        """`limits` are those of the admission queue."""
        self._admission = AdmissionQueue(**limits)
        self._results = ResultBuffer()
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        """Calls for the thread; None ends it."""
        self._counters: Counter[str] = Counter()
        """What the thread counts beside jobs, by the names of the engine's status."""
        self._failures = 0
        self._thread = threading.Thread(target=self._run, name=f"ark-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Fail what still runs and wait for the thread to end. May be called twice."""
        self._admission.close(engine_closed)
        self._inbox.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def cancel(self, results: ResultQueue[R]) -> None:
        """Take a job out, before the next step if it is running; nothing if it is over."""
        if self._admission.leave(results, "cancelled" if results.submitted else None):
            self._call(self._abandon, results)

    def _counted(self) -> dict[str, Any]:
        """The fields of a status that all engines have, and this engine's own counters. For any thread."""
        return {"alive": self._admission.open, **self._admission.outcomes, **self._counters}

    def _submit(self, results: ResultQueue[R], job: J) -> None:
        """Give a job that has entered to the thread."""
        results.submitted = True
        self._call(self._begin, results, job)

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """Call a function on the thread, before its next step."""
        self._inbox.put(partial(function, *arguments))

    # On the thread.

    def run_once(self, *, wait: bool = True) -> bool:
        """Run the calls that have come, compute a step and hand out its results. False when the engine is to end.

        With `wait` an idle engine waits for a call.
        """
        wait = wait and not self._busy
        while True:
            try:
                call = self._inbox.get(block=wait)
            except Empty:
                break
            if call is None:
                return False
            call()
            wait = False
        self._step()
        self._flush()
        return True

    def _run(self) -> None:
        try:
            self._prepare()
            while self.run_once():
                pass
        except BaseException:
            log.exception("the engine's thread died")
        finally:
            try:
                self._clear()
            finally:
                for results, error in self._admission.clear():
                    self._results.add(results, error)
                self._results.flush()
                self._free()
                # The backend keeps the engine, but not what has come too late.
                self._inbox = SimpleQueue()

    def _flush(self) -> None:
        for results in self._results.flush():
            # Its event loop is closed: nobody waits for the job.
            if self._admission.leave(results, "cancelled"):
                self._abandon(results)

    def _fail(self, results: ResultQueue[R], error: APIError) -> None:
        """End a job with an error; nothing if it is over."""
        if self._admission.leave(results, "failed"):
            self._results.add(results, error)

    def _count_step(self, *, failed: bool) -> None:
        """Note how a step ended. Raises RuntimeError when too many in a row have failed."""
        self._failures = self._failures + 1 if failed else 0
        if self._failures >= MAX_FAILURES:
            raise RuntimeError(f"{self._failures} steps failed in a row")

    @property
    @abstractmethod
    def _busy(self) -> bool:
        """There is something to compute."""

    @abstractmethod
    def _begin(self, results: ResultQueue[R], job: J) -> None:
        """Take a job in. It may have been cancelled already; then `_abandon` follows."""

    @abstractmethod
    def _abandon(self, results: ResultQueue[R]) -> None:
        """Forget a job that has been cancelled; nothing if it is over."""

    @abstractmethod
    def _step(self) -> None:
        """Compute a step; nothing where there is nothing to do."""

    @abstractmethod
    def _clear(self) -> None:
        """Forget all jobs: the engine ends. The errors of those who wait go out behind this."""

    def _prepare(self) -> None:
        """Set the thread up."""

    def _free(self) -> None:
        """Free the model; the backend keeps the engine for its status."""
