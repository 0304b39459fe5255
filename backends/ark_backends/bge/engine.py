"""The engine: batches of rows from all jobs, in fair shares of owners and of their jobs."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ark.engines.embedding import EmbeddingJob, EmbeddingStatus
from ark.engines.rerank import RerankJob
from ark.errors import APIError, TooManyRequests
from ark_backends.bge.encoder import Encoder, Item, NotFinite
from ark_backends.bge.options import BgeOptions
from ark_backends.bge.tokens import Row
from ark_backends.kit.admission import request_failed
from ark_backends.kit.engine import Engine
from ark_backends.kit.fair_queue import OwnersQueue
from ark_backends.kit.results import ResultQueue
from ark_backends.kit.threads import set_num_threads

log = logging.getLogger("ark.bge")

MIN_BATCH = 256
"""Tokens of a batch on the slowest machine: with fewer, the overhead of the layers exceeds the work on the tokens."""

MIN_SHARE = 64
"""The fewest tokens that a job gains in its turn."""

PROBE = Item([0])
"""A row that every model can compute."""


Results = ResultQueue[Sequence[Any]]
"""Of a job: an `Embedding` or a `Score` for each of its rows."""


class TokenizedJob:
    """A job whose inputs have been tokenized, with what has been computed of it."""

    def __init__(self, job: EmbeddingJob | RerankJob, results: Results, items: Sequence[Item]) -> None:
        self.job = job
        self.results = results
        self.items = items
        self.found: dict[int, Any] = {}
        """By the index of the row."""
        self.begun = False
        self.over = False
        """Finished, failed or cancelled: what is still computed for it is thrown away."""


@dataclass(frozen=True)
class BatchRow:
    """One row of a batch, and whose it is."""

    owner: TokenizedJob
    index: int

    @property
    def row(self) -> Sequence[int]:
        return self.item.row

    @property
    def item(self) -> Item:
        return self.owner.items[self.index]


class BgeEngine(Engine[TokenizedJob, Sequence[Any]]):
    """Runs jobs on a model. A job enters, which takes its place, its inputs are tokenized elsewhere, and it is
    submitted. Whoever entered must cancel in the end."""

    def __init__(
        self,
        encoder: Encoder,
        options: BgeOptions,
        *,
        max_queue: int = 256,
        colbert_tokens: int = 0,
        name: str = "model",
    ) -> None:
        """`max_queue` jobs may be inside, those that are computed included, and wait for the ColBERT vectors of so many
        tokens together: each vector is kept until its job is complete."""
        inputs = options.max_waiting_inputs
        super().__init__(name, requests=max_queue, inputs=inputs, colbert_tokens=colbert_tokens, pieces=inputs)
        self._options = options
        self._encoder = encoder
        self._queue = OwnersQueue[TokenizedJob, int](MIN_SHARE)
        self._jobs: dict[Results, TokenizedJob] = {}
        self._submitted: dict[Results, int] = {}
        """The tokens of each job that the thread has not taken in yet."""
        self._running = 0
        """Jobs in the batch that is being computed."""
        self._begun = 0
        """Jobs of which a part was computed."""
        self._speed = 0.0
        """Tokens a second, of the last batches; 0 before the first."""

    def enter(self, inputs: int) -> Results:
        """Take a place for a job with so many inputs. Raises TooManyRequests and Unavailable."""
        results = Results()
        if not self._admission.enter(results, requests=1, inputs=inputs):
            requests, others = self._admission.taken("requests"), self._admission.taken("inputs")
            raise self._full(f"{requests} requests with {others} inputs are waiting for this model.")
        return results

    def submit(self, results: Results, job: EmbeddingJob, rows: Sequence[Row]) -> None:
        """Queue the tokenized inputs of a job that has entered.

        Raises TooManyRequests where its ColBERT vectors and those of other jobs would take too much memory.
        """
        tokens = sum(map(len, rows))
        if job.colbert and not self._admission.extend(results, colbert_tokens=tokens):
            taken = self._admission.taken("colbert_tokens")
            raise self._full(f"ColBERT vectors of {taken} tokens are computed for other requests at the moment.")
        items = [
            Item(row, job.dimensions, sparse=job.sparse, colbert=job.colbert, input=index)
            for index, row in enumerate(rows)
        ]
        self._take(results, job, items, tokens)

    def submit_pairs(self, results: Results, job: RerankJob, items: Sequence[Item]) -> None:
        """Queue the tokenized pairs of a job that has entered.

        Raises TooManyRequests where its pieces of documents and those of other jobs would be too many.
        """
        if len(items) > len(job.pairs) and not self._admission.extend(results, pieces=len(items)):
            raise self._full(f"{self._admission.taken('pieces')} pieces of documents are waiting for this model.")
        self._take(results, job, items, sum(len(item.row) for item in items))

    def _take(self, results: Results, job: EmbeddingJob | RerankJob, items: Sequence[Item], tokens: int) -> None:
        self._submitted[results] = tokens
        self._submit(results, TokenizedJob(job, results, items))

    def status(self) -> EmbeddingStatus:
        running, padded = self._running, self._encoder.padded_tokens
        waiting = max(0, len(self._admission) - max(running, self._begun))
        return EmbeddingStatus(running=running, waiting=waiting, padded_tokens=padded, **self._counted())

    def _full(self, message: str) -> TooManyRequests:
        """The error of a full queue, with the seconds until what waits now is computed, as far as that is known."""
        submitted = list(self._submitted.values())
        seconds = 1.0
        if self._speed:
            # Inputs that are still being tokenized may be of any length.
            tokenizing = len(self._admission) > len(submitted) + len(self._jobs)
            seconds = max(1.0 if tokenizing else 0.1, (self._queue.cost + sum(submitted)) / self._speed)
        return TooManyRequests(message, retry_after=seconds, code="queue_full")

    # On the engine's thread.

    @property
    def _busy(self) -> bool:
        return bool(self._jobs)

    def _prepare(self) -> None:
        set_num_threads(self._options.threads)
        self._encoder.open_streams(torch.get_num_threads())

    def _begin(self, results: Results, job: TokenizedJob) -> None:
        self._jobs[results] = job
        self._submitted.pop(results, None)
        costs = [(index, len(item.row)) for index, item in enumerate(job.items)]
        self._queue.add(job.job.owner, job, sorted(costs, key=lambda item: -item[1]))

    def _abandon(self, results: Results) -> None:
        job = self._jobs.pop(results, None)
        if job is not None:
            job.over = True
            self._queue.remove(job)

    def _step(self) -> None:
        taken = self._queue.take(self._budget())
        if not taken:
            return
        batch = sorted((BatchRow(job, index) for job, index in taken), key=lambda part: len(part.row))
        jobs = {job for job, _ in taken}
        for job in jobs:
            job.begun = True
        self._begun = sum(job.begun for job in self._jobs.values())
        self._running = len(jobs)
        started = time.perf_counter()
        try:
            done = self._compute(batch)
        except Exception:
            log.exception("a batch of %d inputs failed; it is tried again in halves", len(batch))
            self._recover()
            done = self._compute_halves(batch)
        if done:
            self._learn(done, time.perf_counter() - started)
        # What a client sends must not end the engine: it fails only where a row of its own fails as well.
        self._count_step(failed=not done and not self._is_sound())
        self._running = 0

    def _is_sound(self) -> bool:
        try:
            self._encoder.encode([PROBE])
        except Exception:
            log.exception("the engine fails on a row of its own as well")
            self._recover()
            return False
        return True

    def _budget(self) -> int:
        """Tokens of the next batch: what `batch_seconds` are enough for, at the speed of the last ones."""
        asked = int(self._speed * self._options.batch_seconds)
        return min(self._options.batch_tokens, max(MIN_BATCH, asked))

    def _learn(self, tokens: int, seconds: float) -> None:
        speed = tokens / max(seconds, 1e-6)
        # A small batch is slow for its size, and tells little about a large one.
        weight = min(0.5, tokens / MIN_BATCH / 4)
        self._speed = speed if not self._speed else self._speed + weight * (speed - self._speed)

    def _compute_halves(self, batch: Sequence[BatchRow]) -> int:
        """Compute the halves of a batch that failed. A half that fails again fails its jobs. Returns tokens done."""
        done = 0
        middle = (len(batch) + 1) // 2
        for half in (batch[:middle], batch[middle:]):
            # Nothing more is wanted of a job that the first half has failed.
            parts = [part for part in half if not part.owner.over]
            if not parts:
                continue
            try:
                done += self._compute(parts)
            except Exception:
                log.exception("%d inputs failed again, and their requests with them", len(parts))
                for part in parts:
                    self._fail_job(part.owner, request_failed())
                self._recover()
        return done

    def _recover(self) -> None:
        if self._encoder.device.type == "cuda":
            torch.cuda.empty_cache()

    def _compute(self, batch: Sequence[BatchRow]) -> int:
        """One batch through the model. Returns its tokens."""
        found = self._encoder.encode([part.item for part in batch])
        tokens = sum(len(part.row) for part in batch)
        self._counters.update(batches=1, inputs=len(batch), tokens=tokens)
        for part, result in zip(batch, found, strict=True):
            job = part.owner
            if job.over:
                continue
            if isinstance(result, NotFinite):
                self._fail_job(job, self._not_finite(part))
                continue
            job.found[part.index] = result
            if len(job.found) == len(job.items):
                self._admission.leave(job.results, "finished")
                self._results.add(job.results, [job.found[index] for index in range(len(job.items))])
                self._abandon(job.results)
        return tokens

    def _not_finite(self, part: BatchRow) -> APIError:
        dtype = str(self._encoder.dtype).removeprefix("torch.")
        job = part.owner.job
        place = f"{'documents' if isinstance(job, RerankJob) else 'input'}[{part.item.input}]"
        log.error("request %s: %s gave no finite numbers in %s", job.request_id, place, dtype)
        return APIError(
            "What the model makes of this input is not finite in the type that it is computed in.",
            param=place,
            code="engine_failed",
            # It would come out so again; OpenAI's client repeats a 500 unless it is told.
            headers={"x-should-retry": "false"},
        )

    def _fail_job(self, job: TokenizedJob, error: APIError) -> None:
        self._fail(job.results, error)
        self._abandon(job.results)

    def _clear(self) -> None:
        self._jobs.clear()
        self._submitted.clear()
        self._queue = OwnersQueue(MIN_SHARE)

    def _free(self) -> None:
        self._encoder.unload()
