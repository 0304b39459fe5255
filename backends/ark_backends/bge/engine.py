"""The engine: one thread that takes jobs in, computes batches, and hands results out."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

import torch

from ark.engines.embedding import Embedding, EmbeddingJob, EmbeddingStatus
from ark.errors import APIError, TooManyRequests, Unavailable
from ark_backends.bge.encoder import Encoder, Item, NotFinite
from ark_backends.bge.ticket import Ticket
from ark_backends.bge.tokens import Row
from ark_backends.bge.turns import Part, Turns, Work
from ark_backends.kit.results import Outbox, engine_closed, engine_failed
from ark_backends.kit.threads import among_ourselves, compute_with

log = logging.getLogger("ark.bge")

MAX_FAILURES = 5
"""Batches of which nothing came out, in a row, after which the engine gives up, if a row of its own fails as well: a
broken device does not come back by trying, and what a client sends must not end the engine."""

MIN_BATCH = 256
"""Tokens of a batch on the slowest machine: below, a pass costs more for its layers than for its tokens."""

PROBE = Item([0])
"""A row that every model can compute."""

_FAILED = "The model's engine failed on this request."
_NOT_FINITE = "The model's vector of this input is not finite in the type that it is computed in."


@dataclass(frozen=True)
class Limits:
    """What an engine may take."""

    batch_tokens: int = 16_384
    batch_seconds: float = 0.2
    max_queue: int = 256
    """Jobs inside at the same time, those that are computed included."""
    max_inputs: int = 32_768
    """Inputs of all these jobs."""
    colbert_tokens: int = 65_536
    """Tokens whose ColBERT vectors all these jobs wait for: each vector is kept until its job is complete."""
    threads: int | None = None


@dataclass(frozen=True)
class _Submit:
    job: EmbeddingJob
    ticket: Ticket
    rows: Sequence[Row]


@dataclass(frozen=True)
class _Cancel:
    ticket: Ticket


class _Close:
    """Ends the thread."""


@dataclass
class _Counters:
    batches: int = 0
    inputs: int = 0
    tokens: int = 0
    jobs_finished: int = 0
    jobs_cancelled: int = 0
    jobs_failed: int = 0


@dataclass
class _Door:
    """What threads share: the jobs that are in, and whether more may come. Guarded by `lock`."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    inside: set[Ticket] = field(default_factory=set)
    inputs: int = 0
    colbert: dict[Ticket, int] = field(default_factory=dict)
    """Tokens that get ColBERT vectors, of the jobs that asked for them."""
    shut: Callable[[], APIError] | None = None
    """Makes the error of those who come now. Each gets its own: an exception that is raised again keeps the frames of
    all who raised it, and with them their requests."""

    def leave(self, ticket: Ticket) -> bool:
        """False when it had left before."""
        with self.lock:
            if ticket not in self.inside:
                return False
            self.inside.remove(ticket)
            self.inputs -= ticket.inputs
            self.colbert.pop(ticket, None)
            return True


class Engine:
    """Runs jobs on a model. Its public methods may be called from any thread; `enter` from an event loop.

    A job enters, which takes a place in the queue, its inputs are tokenised elsewhere, and it is submitted. Whoever
    entered must leave.
    """

    def __init__(self, encoder: Encoder, limits: Limits, name: str = "model") -> None:
        self.limits = limits
        self._encoder = encoder
        self._turns = Turns()
        self._works: dict[Ticket, Work] = {}
        self._computing = 0
        """Jobs in the batch that is being computed."""
        self._begun = 0
        """Jobs of which a part was computed."""
        self._speed = 0.0
        """Tokens a second, of the last batches; 0 before the first."""
        self._failures = 0
        self._count = _Counters()
        self._outbox = Outbox[Ticket]()
        self._inbox: SimpleQueue[_Submit | _Cancel | _Close] = SimpleQueue()
        self._door = _Door()
        self._thread = threading.Thread(target=self._run, name=f"ark-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Fail what still waits and wait for the thread to end. May be called twice."""
        self._shut(engine_closed)
        self._inbox.put(_Close())
        if self._thread.is_alive():
            self._thread.join()

    def enter(self, inputs: int) -> Ticket:
        """Take a place for a job with so many inputs. Raises TooManyRequests and Unavailable."""
        ticket = Ticket(inputs)
        door, limits = self._door, self.limits
        with door.lock:
            if door.shut is not None:
                raise door.shut()
            full = len(door.inside) >= limits.max_queue or door.inputs + inputs > limits.max_inputs
            if door.inside and full:
                message = f"{len(door.inside)} requests with {door.inputs} inputs are waiting for this model."
                raise TooManyRequests(message, retry_after=self._wait(), code="queue_full")
            door.inside.add(ticket)
            door.inputs += inputs
        return ticket

    def submit(self, ticket: Ticket, job: EmbeddingJob, rows: Sequence[Row]) -> None:
        """Queue the tokenised inputs of a job that has entered; the result arrives in its ticket.

        Raises TooManyRequests where its ColBERT vectors and those of other jobs would take too much memory.
        """
        tokens = sum(map(len, rows))
        if job.colbert:
            self._reserve(ticket, tokens)
        ticket.tokens = tokens
        self._inbox.put(_Submit(job, ticket, rows))

    def _reserve(self, ticket: Ticket, tokens: int) -> None:
        door = self._door
        with door.lock:
            taken = sum(door.colbert.values())
            if taken and taken + tokens > self.limits.colbert_tokens:
                message = f"ColBERT vectors of {taken} tokens are computed for other requests at the moment."
                raise TooManyRequests(message, retry_after=self._wait(), code="queue_full")
            # One that has left meanwhile would never give it back.
            if ticket in door.inside:
                door.colbert[ticket] = tokens

    def leave(self, ticket: Ticket) -> None:
        """Give the place back, and cancel the job if it is not over."""
        if self._door.leave(ticket):
            self._inbox.put(_Cancel(ticket))

    def status(self) -> EmbeddingStatus:
        count, running = self._count, self._computing
        with self._door.lock:
            inside, alive = len(self._door.inside), self._door.shut is None
        return EmbeddingStatus(
            alive=alive,
            running=running,
            waiting=max(0, inside - max(running, self._begun)),
            batches=count.batches,
            inputs=count.inputs,
            tokens=count.tokens,
            padded_tokens=self._encoder.padded_tokens,
            jobs_finished=count.jobs_finished,
            jobs_cancelled=count.jobs_cancelled,
            jobs_failed=count.jobs_failed,
        )

    def _wait(self) -> float:
        """Seconds until what waits now is computed, as far as it is known. With the door locked."""
        # What was submitted during a batch has not been taken in.
        outside = [ticket for ticket in self._door.inside if ticket not in self._works]
        tokens = self._turns.tokens + sum(ticket.tokens for ticket in outside)
        # Inputs that are still being tokenised may be of any length.
        least = 0.1 if all(ticket.tokens for ticket in outside) else 1.0
        return max(least, tokens / self._speed) if self._speed else 1.0

    def _shut(self, reason: Callable[[], APIError]) -> None:
        with self._door.lock:
            if self._door.shut is None:
                self._door.shut = reason

    # On the engine's thread.

    def _run(self) -> None:
        try:
            if self.limits.threads is not None:
                with among_ourselves():
                    compute_with(self.limits.threads)
            self._encoder.open_lanes(torch.get_num_threads())
            while self._take_in():
                self._step()
                self._outbox.flush()
        except BaseException:
            log.exception("the engine's thread died")
        finally:
            self._end()

    def _take_in(self) -> bool:
        """Handle all messages, waiting for one when there is nothing to do. False when the engine is to end."""
        while True:
            try:
                message = self._inbox.get(block=not self._turns)
            except Empty:
                return True
            if isinstance(message, _Submit):
                work = Work(message.job, message.ticket, message.rows)
                self._works[message.ticket] = work
                self._turns.add(work)
            elif isinstance(message, _Cancel):
                cancelled = self._works.get(message.ticket)
                # A job whose inputs were refused has not come so far.
                if cancelled is not None:
                    self._count.jobs_cancelled += 1
                    self._drop(cancelled)
            else:
                return False

    def _step(self) -> None:
        batch = self._turns.take(self._budget())
        self._begun = sum(work.begun for work in self._works.values())
        self._computing = len({part.work.ticket for part in batch})
        started = time.perf_counter()
        try:
            done = self._compute(batch)
        except Exception:
            log.exception("a batch of %d inputs failed; it is tried again in halves", len(batch))
            self._recover()
            done = self._halves(batch)
        if not done:
            self._failures = 0 if self._sound() else self._failures + 1
            if self._failures >= MAX_FAILURES:
                raise RuntimeError(f"{self._failures} batches failed in a row, and a plain row behind each")
        else:
            self._failures = 0
            self._learn(done, time.perf_counter() - started)
        self._computing = 0

    def _sound(self) -> bool:
        """Whether the model still computes a row of the engine's own: if so, the fault was in what was sent."""
        try:
            self._encoder.encode([PROBE])
        except Exception:
            log.exception("the engine fails on a row of its own as well")
            self._recover()
            return False
        return True

    def _budget(self) -> int:
        """Tokens of the next batch: what is computed in `batch_seconds`, by the last ones."""
        asked = int(self._speed * self.limits.batch_seconds)
        return min(self.limits.batch_tokens, max(MIN_BATCH, asked))

    def _learn(self, tokens: int, seconds: float) -> None:
        speed = tokens / max(seconds, 1e-6)
        # A small batch is slow for its size, and says little of a large one.
        weight = min(0.5, tokens / MIN_BATCH / 4)
        self._speed = speed if not self._speed else self._speed + weight * (speed - self._speed)

    def _halves(self, batch: Sequence[Part]) -> int:
        """Compute the halves of a batch that failed. A half that fails again fails its jobs. Returns tokens done."""
        done = 0
        middle = (len(batch) + 1) // 2
        for half in (batch[:middle], batch[middle:]):
            # Of a job that the first half has failed, nothing more is wanted.
            parts = [part for part in half if not part.work.over]
            if not parts:
                continue
            try:
                done += self._compute(parts)
            except Exception:
                log.exception("%d inputs failed again, and their requests with them", len(parts))
                for part in parts:
                    self._fail(part.work, Unavailable(_FAILED, code="engine_failed"))
                self._recover()
        return done

    def _recover(self) -> None:
        if self._encoder.device.type == "cuda":
            torch.cuda.empty_cache()

    def _compute(self, batch: Sequence[Part]) -> int:
        """One batch through the model. Returns its tokens."""
        results = self._encoder.encode([part.item for part in batch])
        count = self._count
        count.batches += 1
        tokens = 0
        for part, result in zip(batch, results, strict=True):
            tokens += len(part.row)
            if part.work.over:
                continue
            if isinstance(result, NotFinite):
                job, kind = part.work.job, str(self._encoder.dtype).removeprefix("torch.")
                log.error("request %s: input[%d] gave no finite numbers in %s", job.request_id, part.index, kind)
                # It would come out so again; OpenAI's client repeats a 500 unless it is told.
                once = {"x-should-retry": "false"}
                param = f"input[{part.index}]"
                self._fail(part.work, APIError(_NOT_FINITE, param=param, code="engine_failed", headers=once))
            else:
                self._put(part, result)
        count.inputs += len(batch)
        count.tokens += tokens
        return tokens

    def _put(self, part: Part, result: Embedding) -> None:
        work = part.work
        work.results[part.index] = result
        work.missing -= 1
        if not work.missing:
            self._count.jobs_finished += 1
            self._outbox.add(work.ticket, work.results)
            self._drop(work)

    def _fail(self, work: Work, error: APIError) -> None:
        if not work.over:
            self._count.jobs_failed += 1
            self._outbox.add(work.ticket, error)
            self._drop(work)

    def _drop(self, work: Work) -> None:
        work.over = True
        self._turns.remove(work)
        del self._works[work.ticket]
        self._door.leave(work.ticket)

    def _end(self) -> None:
        """Whatever the reason: nobody may wait for ever."""
        self._shut(engine_failed)
        self._works.clear()
        self._turns = Turns()
        with self._door.lock:
            left, self._door.inside, self._door.inputs = list(self._door.inside), set(), 0
            self._door.colbert.clear()
            reason = self._door.shut or engine_failed
        for ticket in left:
            self._outbox.add(ticket, reason())
        self._count.jobs_failed += len(left)
        self._outbox.flush()
        # The backend keeps the engine for its status, and the weights should not stay with it.
        self._encoder.unload()
