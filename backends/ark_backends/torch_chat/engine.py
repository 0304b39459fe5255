"""The engine: one thread that takes jobs in, steps, and hands tokens out."""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from queue import Empty
from typing import Literal

import torch

from ark.engines.chat import BackendStatus, GenerationJob, TokenBatch
from ark.errors import APIError, ContextLengthExceeded
from ark_backends.kit.engine import MAX_FAILURES, Cancel, EngineLimits, EngineThread, Release, Submit, request_failed
from ark_backends.kit.grammar import GrammarFailed
from ark_backends.kit.results import Mailbox, engine_failed
from ark_backends.kit.threads import among_ourselves, compute_with
from ark_backends.torch_chat.attention import Piece
from ark_backends.torch_chat.runner import Runner
from ark_backends.torch_chat.scheduler import Scheduler, Sequence, sequences
from ark_backends.torch_chat.states import States
from ark_backends.torch_chat.voice import Said, say

log = logging.getLogger("ark.torch_chat")


@dataclass(frozen=True, kw_only=True)
class Limits(EngineLimits):
    """What the engine may take."""

    kv_bytes: int
    prefill_chunk: int
    threads: int | None = None


@dataclass(frozen=True)
class Step:
    """What one step computed: its sequences by the number of their tokens, and the KV held after it."""

    singles: int
    prompt_tokens: int
    kv_bytes: int


class Engine(EngineThread):
    """Runs jobs on a model."""

    limits: Limits

    def __init__(self, runner: Runner, limits: Limits, name: str = "model") -> None:
        super().__init__(self._run, limits, vocab_size=runner.vocab_size, name=name)
        self.history: deque[Step] = deque(maxlen=1024)
        """The last steps, newest last."""
        self._runner = runner
        self._states = States(runner.spec, limits.kv_bytes)
        self._scheduler = Scheduler(self._states, max_running=limits.max_running, prefill_chunk=limits.prefill_chunk)
        self._sequences: dict[Mailbox, list[Sequence]] = {}
        """The replies of each job that are not over."""
        self._failures = 0

    def status(self) -> BackendStatus:
        states = self._states
        return self._status(running=len(self._scheduler.running), kv_bytes=states.used, kv_budget=states.budget)

    def _check(self, job: GenerationJob) -> int:
        total = super()._check(job)
        if not self._states.can_fit(total - 1):
            raise ContextLengthExceeded(f"{total} tokens do not fit the memory of this model's engine.")
        return total

    # On the engine's thread.

    def _run(self) -> None:
        try:
            if self.limits.threads is not None:
                with among_ourselves():
                    compute_with(self.limits.threads)
            while self._take_in():
                self._step()
                self._hand_out()
        except BaseException:
            log.exception("the engine's thread died")
        finally:
            self._end()

    def _take_in(self) -> bool:
        """Handle all messages, waiting for one when there is nothing to do. False when the engine is to end."""
        while True:
            try:
                message = self._inbox.get(block=not self._sequences)
            except Empty:
                return True
            if isinstance(message, Submit):
                self._begin(message)
            elif isinstance(message, Cancel):
                self._cancel(message.mailbox)
            elif isinstance(message, Release):
                self._states.release(message.session)
            else:
                return False

    def _begin(self, message: Submit) -> None:
        try:
            leader = sequences(message.job, message.mailbox, message.matcher, self._vocab_size)
        except Exception:
            log.exception("request %s could not be prepared", message.job.request_id)
            self._refuse(message)
            self._hand_out()
            return
        self._sequences[message.mailbox] = [leader]
        self._scheduler.waiting.append(leader)

    def _step(self) -> None:
        self._drop_unwanted()
        self._admit()
        work: list[tuple[Sequence, int]] = []
        try:
            work = self._scheduler.step()
            if work:
                self._compute(work)
        except Exception:
            jobs = [sequence for sequence, _ in work] or list(self._scheduler.running)
            # Those that are over already have their last token.
            jobs = [sequence for sequence in jobs if sequence.mailbox in self._sequences]
            log.exception("a step failed, and %d jobs with it", len(jobs))
            self._fail(jobs)
            self._count_failure()

    def _admit(self) -> None:
        try:
            for sequence, cached in self._scheduler.admit():
                if sequence.announced:
                    continue
                sequence.announced = True
                self._count.prompt_tokens_cached += cached
                self._outbox.add(sequence.mailbox, TokenBatch(cached_tokens=cached))
        except Exception:
            log.exception("a job could not be admitted")
            self._fail([self._scheduler.waiting[0]])
            self._count_failure()
        # Sent before the prompt is computed: a client sees at once that its job has begun.
        self._hand_out()

    def _compute(self, work: list[tuple[Sequence, int]]) -> None:
        """One forward pass, and a token for every sequence that has none left to read."""
        pieces = []
        for sequence, count in work:
            start = sequence.running_state.kv.length
            pieces.append(Piece(sequence.running_state.kv, sequence.tokens[start : start + count]))
        wanted = [i for i, (sequence, count) in enumerate(work) if count == sequence.pending]
        done = [work[i][0] for i in wanted]
        logits = self._runner.forward(pieces, wanted)
        said = say(logits, [sequence.voice for sequence in done])
        prompt_tokens = 0
        for (sequence, _), piece in zip(work, pieces, strict=True):
            before = sequence.running_state.kv.length
            self._states.extend(sequence.running_state, piece.token_ids)
            prompt_tokens += max(0, min(len(sequence.job.prompt), before + len(piece.token_ids)) - before)
        for sequence, one in zip(done, said, strict=True):
            # Another reply of the same job may have failed just before.
            if sequence.state is not None:
                self._accept(sequence, one)
        self._failures = 0
        self._count.steps += 1
        self._count.prompt_tokens_computed += prompt_tokens
        singles = sum(1 for piece in pieces if len(piece.token_ids) == 1)
        self.history.append(Step(singles, prompt_tokens, self._states.used))

    def _accept(self, sequence: Sequence, said: Said) -> None:
        error, token = said.error, said.token
        if error is None:
            try:
                sequence.voice.accept(token)
            except GrammarFailed as failure:
                error = failure
        if error is not None:
            log.error("request %s: no token could be chosen: %s", sequence.job.request_id, error.message)
            self._fail([sequence], error)
            return
        sequence.tokens.append(token)
        self._count.tokens_generated += 1
        self._follow(sequence)
        reason: Literal["stop", "length"] | None = None
        if token in sequence.job.stop_token_ids:
            reason = "stop"
        elif sequence.generated >= sequence.job.max_tokens:
            reason = "length"
        logprobs = () if said.logprob is None else (said.logprob,)
        batch = TokenBatch(token_ids=(token,), finish_reason=reason, index=sequence.index, logprobs=logprobs)
        self._outbox.add(sequence.mailbox, batch)
        if reason is not None and self._leave(sequence):
            self._count.jobs_finished += 1

    def _follow(self, leader: Sequence) -> None:
        """Let the other replies in: the prompt is computed now, and they begin with copies of its KV."""
        if leader.followers:
            self._sequences[leader.mailbox] += leader.followers
            self._scheduler.waiting.extendleft(reversed(leader.followers))
            leader.followers = []

    def _drop_unwanted(self) -> None:
        """End the replies that the server has seen the end of, while others of their job go on."""
        unwanted = [
            sequence
            for replies in self._sequences.values()
            for sequence in replies
            if sequence.index in sequence.job.dropped and not sequence.followers
        ]
        for sequence in unwanted:
            self._outbox.add(sequence.mailbox, TokenBatch(finish_reason="stop", index=sequence.index))
            if self._leave(sequence):
                self._count.jobs_finished += 1

    def _cancel(self, mailbox: Mailbox) -> None:
        replies = list(self._sequences.get(mailbox, ()))
        if replies:
            self._count.jobs_cancelled += 1
        for sequence in replies:
            # What was computed is right, only unwanted: it may still serve as a cache.
            self._leave(sequence, cancelled=True)

    def _fail(self, failed: list[Sequence], error: APIError | None = None) -> None:
        """End the jobs of these sequences."""
        error = error or request_failed()
        for mailbox in dict.fromkeys(sequence.mailbox for sequence in failed):
            self._outbox.add(mailbox, error)
            self._count.jobs_failed += 1
            for sequence in list(self._sequences[mailbox]):
                # Nobody knows what a failed pass has written.
                self._leave(sequence, keep=sequence not in failed)

    def _count_failure(self) -> None:
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            raise RuntimeError(f"{self._failures} steps failed in a row")
        if self._runner.device.type == "cuda":
            torch.cuda.empty_cache()

    def _leave(self, sequence: Sequence, *, keep: bool = True, cancelled: bool = False) -> bool:
        """Take a sequence out; True when its job is over with it."""
        self._scheduler.finish(sequence, keep=keep, cancelled=cancelled)
        replies = self._sequences[sequence.mailbox]
        replies.remove(sequence)
        if replies:
            return False
        del self._sequences[sequence.mailbox]
        self._door.leave(sequence.mailbox)
        return True

    def _hand_out(self) -> None:
        for mailbox in self._outbox.flush():
            self._cancel(mailbox)

    def _end(self) -> None:
        """Whatever the reason: nobody may wait for ever."""
        self._door.close(engine_failed)
        self._sequences.clear()
        self._scheduler.waiting.clear()
        self._scheduler.running.clear()
        self._states.clear()
        # The backend keeps the engine for its status; the weights go with the last reference to the runner.
        del self._runner
        self._dismiss()
