"""The thread of a chat engine, the ways into it and out of it: what is the same for all of ARK's chat engines.

Importing this module imports no engine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

import msgspec

from ark.engines.chat import BackendStatus, GenerationJob
from ark.errors import Unavailable
from ark_backends.kit.admission import Counters, Door, check_job
from ark_backends.kit.results import Mailbox, Outbox, engine_closed

if TYPE_CHECKING:
    from ark_backends.kit.grammar import Matcher

MAX_FAILURES = 5
"""Failed steps in a row after which an engine gives up: a broken device does not come back by trying."""


@dataclass(frozen=True)
class EngineLimits:
    """What an engine may take."""

    context_length: int
    max_running: int
    max_queue: int


@dataclass(frozen=True)
class Submit:
    """A job has come."""

    job: GenerationJob
    mailbox: Mailbox
    matcher: Matcher | None


@dataclass(frozen=True)
class Cancel:
    """Nobody waits for a job any more."""

    mailbox: Mailbox


@dataclass(frozen=True)
class Release:
    """A session is over."""

    session: str


class Close:
    """Ends the thread."""


class EngineThread:
    """All that other threads know of an engine. Its public methods may be called from any thread; `submit` from an
    event loop.

    An engine adds what runs on the thread: `run` handles the messages of `_inbox` until one is `Close`. Whatever it
    ends with, it calls `_dismiss`.
    """

    def __init__(self, run: Callable[[], None], limits: EngineLimits, *, vocab_size: int, name: str) -> None:
        self.limits = limits
        self._vocab_size = vocab_size
        self._count = Counters()
        self._outbox = Outbox[Mailbox]()
        self._inbox: SimpleQueue[Submit | Cancel | Release | Close] = SimpleQueue()
        self._door = Door()
        self._thread = threading.Thread(target=run, name=f"ark-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Fail what still runs and wait for the thread to end. May be called twice."""
        self._door.close(engine_closed)
        self._inbox.put(Close())
        if self._thread.is_alive():
            self._thread.join()

    def submit(self, job: GenerationJob, matcher: Matcher | None = None) -> Mailbox:
        """Queue a job; its batches arrive in the mailbox. Raises the errors of `ChatBackend.generate`.

        `matcher` is the job's grammar, compiled; it belongs to the engine from now on.
        """
        self._check(job)
        mailbox = Mailbox(job.n)
        places = self.limits.max_running + self.limits.max_queue
        self._door.enter(mailbox, places, lambda: self._inbox.put(Submit(job, mailbox, matcher)))
        return mailbox

    def cancel(self, mailbox: Mailbox) -> None:
        """Stop a job before the next step; nothing if it is over."""
        self._door.if_inside(mailbox, lambda: self._inbox.put(Cancel(mailbox)))

    def release(self, session: str) -> None:
        self._inbox.put(Release(session))

    def _check(self, job: GenerationJob) -> int:
        """Refuse a job that could never run. Returns its tokens, those to be generated included."""
        return check_job(job, vocab_size=self._vocab_size, context_length=self.limits.context_length)

    def _status(self, *, running: int, kv_bytes: int, kv_budget: int) -> BackendStatus:
        """A snapshot, for any thread; what is not in the numbers given is what the engine has counted."""
        count = self._count
        return BackendStatus(
            alive=self._door.open,
            running=running,
            waiting=max(0, self._door.replies - running),
            kv_bytes=kv_bytes,
            kv_budget=kv_budget,
            steps=count.steps,
            prompt_tokens_computed=count.prompt_tokens_computed,
            prompt_tokens_cached=count.prompt_tokens_cached,
            tokens_generated=count.tokens_generated,
            jobs_finished=count.jobs_finished,
            jobs_cancelled=count.jobs_cancelled,
            jobs_failed=count.jobs_failed,
        )

    # On the engine's thread.

    def _refuse(self, message: Submit) -> None:
        """Fail a job whose replies could not be made: what is wrong with one is not the others' trouble."""
        self._count.jobs_failed += 1
        self._door.leave(message.mailbox)
        self._outbox.add(message.mailbox, request_failed())

    def _dismiss(self) -> None:
        """Fail what is left, whatever the engine ends for: nobody may wait for ever."""
        left = self._door.empty()
        for mailbox, error in left:
            self._outbox.add(mailbox, error)
        self._count.jobs_failed += len(left)
        self._outbox.flush()


def request_failed() -> Unavailable:
    """What a request gets whose engine failed on it; the log says more."""
    return Unavailable("The model's engine failed on this request.", code="engine_failed")


def shares(job: GenerationJob, matcher: Matcher | None) -> Iterator[tuple[int, GenerationJob, Matcher | None]]:
    """For each reply of a job its index, the job as it is for it, and a matcher of its own.

    Only the first reply belongs to the session: the others would take its state over.
    """
    others = msgspec.structs.replace(job, session=None) if job.n > 1 else job
    forks = [None if matcher is None else matcher.fork() for _ in range(1, job.n)]
    yield 0, job, matcher
    for index, fork in enumerate(forks, 1):
        yield index, others, fork
