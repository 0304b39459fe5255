"""The engine: packed steps over all running sequences."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import torch

from ark.engines.chat import BackendStatus, GenerationJob, TokenBatch
from ark.errors import ContextLengthExceeded
from ark_backends.kit.chat_engine import ChatEngine, ChatLimits
from ark_backends.kit.grammar import GrammarFailed, Matcher
from ark_backends.kit.logits import log_probabilities
from ark_backends.kit.results import ResultQueue
from ark_backends.kit.threads import set_num_threads
from ark_backends.torch_chat.attention import Piece
from ark_backends.torch_chat.kv_cache import KVCache
from ark_backends.torch_chat.runner import Runner
from ark_backends.torch_chat.sampling import SampledToken, sample
from ark_backends.torch_chat.scheduler import Scheduler, Sequence

log = logging.getLogger("ark.torch_chat")


@dataclass(frozen=True, kw_only=True)
class TorchLimits(ChatLimits):
    """What the engine may take."""

    kv_bytes: int
    prefill_chunk: int
    threads: int | None = None


class TorchEngine(ChatEngine[Sequence]):
    """Runs jobs on a model."""

    limits: TorchLimits

    def __init__(self, runner: Runner, limits: TorchLimits, name: str = "model") -> None:
        super().__init__(limits, vocab_size=runner.vocab_size, name=name)
        self.deterministic = runner.deterministic
        self._runner = runner
        self._cache = KVCache(runner.spec, limits.kv_bytes)
        self._scheduler = Scheduler(
            self._cache, self._waiting, max_running=limits.max_running, prefill_chunk=limits.prefill_chunk
        )

    def status(self) -> BackendStatus:
        cache = self._cache
        return self._status(running=len(self._scheduler.running), kv_bytes=cache.used, kv_budget=cache.budget)

    def _check(self, job: GenerationJob) -> int:
        total = super()._check(job)
        if not self._cache.can_fit(total - 1):
            raise ContextLengthExceeded(f"{total} tokens do not fit the memory of this model's engine.")
        return total

    # On the engine's thread.

    def _prepare(self) -> None:
        set_num_threads(self.limits.threads)

    def _make(
        self, job: GenerationJob, results: ResultQueue[TokenBatch], index: int, matcher: Matcher | None
    ) -> Sequence:
        return Sequence(job, results, index, matcher, width=self._vocab_size)

    def _remove(self, reply: Sequence, *, ended: bool = False, cancelled: bool = False, suspect: bool = False) -> None:
        self._scheduler.finish(reply, keep=not suspect, cancelled=cancelled)

    def _release(self, session: str) -> None:
        self._cache.release(session)

    def _step(self) -> None:
        self._end_dropped()
        self._admit()
        scheduled: list[tuple[Sequence, int]] = []
        try:
            scheduled = self._scheduler.step()
            if scheduled:
                self._compute(scheduled)
        except Exception:
            failed = [sequence for sequence, _ in scheduled] or list(self._scheduler.running)
            # Those that are over already have their last token.
            failed = [sequence for sequence in failed if sequence.results in self._replies]
            log.exception("a step failed, and %d replies with it", len(failed))
            self._step_failed(failed)

    def _admit(self) -> None:
        try:
            for sequence, cached in self._scheduler.admit():
                if sequence.announced:
                    continue
                sequence.announced = True
                self._counters["prompt_tokens_cached"] += cached
                self._results.add(sequence.results, TokenBatch(cached_tokens=cached))
        except Exception:
            log.exception("a job could not be admitted")
            self._step_failed([self._waiting[0]])
        # Sent before the prompt is computed: a client sees at once that its job has begun.
        self._flush()

    def _compute(self, scheduled: list[tuple[Sequence, int]]) -> None:
        """One forward pass, and a token for every sequence that has none left to read."""
        pieces = []
        for sequence, count in scheduled:
            kv = sequence.entry.kv
            pieces.append(Piece(kv, sequence.tokens[kv.length : kv.length + count]))
        wanted = [i for i, (sequence, count) in enumerate(scheduled) if count == sequence.pending]
        done = [scheduled[i][0] for i in wanted]
        if any(sequence.unscored for sequence, _ in scheduled):
            logits = self._score(scheduled, pieces, wanted)
        else:
            logits = self._runner.forward(pieces, wanted)
        sampled = sample(logits, [sequence.sampling for sequence in done])
        prompt_tokens = 0
        for (sequence, _), piece in zip(scheduled, pieces, strict=True):
            before = piece.kv.length
            self._cache.extend(sequence.entry, piece.token_ids)
            prompt_tokens += max(0, min(len(sequence.job.prompt), before + len(piece.token_ids)) - before)
        for sequence, token in zip(done, sampled, strict=True):
            # Another reply of the same job may have failed just before.
            if sequence.cached is not None:
                self._accept(sequence, token)
        self._count_step(failed=False)
        self._counters["steps"] += 1
        self._counters["prompt_tokens_computed"] += prompt_tokens

    def _score(self, scheduled: list[tuple[Sequence, int]], pieces: list[Piece], wanted: list[int]) -> torch.Tensor:
        """The same forward pass, which also tells how likely the prompts' tokens are."""
        rows: list[int] = []
        last: list[int] = []
        parts: list[tuple[Sequence, int, int]] = []
        start = 0
        for index, ((sequence, count), piece) in enumerate(zip(scheduled, pieces, strict=True)):
            before = piece.kv.length
            # One that was preempted is computed again, and told of only once.
            first, end = max(before, sequence.scored), min(before + count, len(sequence.job.prompt) - 1)
            if first < end:
                parts.append((sequence, len(rows), end - first))
                rows.extend(range(start + first - before, start + end - before))
            start += count
            if index in wanted:
                last.append(len(rows))
                rows.append(start - 1)
        logits = self._runner.rows(pieces, rows)
        for sequence, row, count in parts:
            following = sequence.job.prompt[sequence.scored + 1 : sequence.scored + 1 + count]
            found = log_probabilities(logits[row : row + count], following, [sequence.job.top_logprobs or 0] * count)
            sequence.scored += count
            told = [logprob for logprob in found if logprob is not None]
            self._results.add(sequence.results, TokenBatch(prompt_logprobs=told))
        return logits[last]

    def _accept(self, sequence: Sequence, sampled: SampledToken) -> None:
        error, token = sampled.error, sampled.token
        if error is None:
            try:
                sequence.sampling.accept(token)
            except GrammarFailed as failure:
                error = failure
        if error is not None:
            log.error("request %s: no token could be chosen: %s", sequence.job.request_id, error.message)
            self._fail_jobs([sequence], error)
            return
        sequence.tokens.append(token)
        reason: Literal["stop", "length"] | None = None
        if token in sequence.job.stop_token_ids:
            reason = "stop"
        elif sequence.generated >= sequence.job.max_tokens:
            reason = "length"
        self._send(sequence, (token,), reason, () if sampled.logprob is None else (sampled.logprob,))

    def _step_failed(self, failed: list[Sequence]) -> None:
        self._fail_jobs(failed)
        self._count_step(failed=True)
        if self._runner.device.type == "cuda":
            torch.cuda.empty_cache()

    def _clear(self) -> None:
        super()._clear()
        self._scheduler.running.clear()
        self._cache.clear()

    def _free(self) -> None:
        # The weights go with the last reference to the runner.
        del self._runner
