"""One reply of a job on its way through a generator of ExLlama's."""

from __future__ import annotations

import logging
import threading
from typing import Any

import torch

from ark.engines.chat import GenerationJob, TokenBatch, TokenLogprob
from ark.errors import APIError
from ark_backends.kit import chat_engine
from ark_backends.kit.admission import request_failed
from ark_backends.kit.grammar import GrammarFailed, Matcher
from ark_backends.kit.logits import Penalties, apply_penalties, log_probabilities
from ark_backends.kit.masks import apply_masks
from ark_backends.kit.results import ResultQueue

log = logging.getLogger("ark.exllama")

_NOT_FINITE = "its logits are not finite"
"""For the log and not for the client: it is the model that is broken, not the request."""


class Mask:
    """The ids that a grammar allows next, computed once for each token.

    `prepare` may run on a thread of the generator's while the model computes, and be called by another meanwhile.
    """

    def __init__(self, matcher: Matcher) -> None:
        self.error: GrammarFailed | None = None
        self._matcher = matcher
        self._bits = torch.full((1, matcher.words), -1, dtype=torch.int32)
        self._ready = False
        self._lock = threading.Lock()

    def prepare(self) -> torch.Tensor:
        """A bit for each id, int32 (1, words). A grammar that fails allows all ids, and `error` ends the reply."""
        with self._lock:
            if not self._ready:
                try:
                    self._matcher.fill(self._bits[0])
                except GrammarFailed as error:
                    self.error = error
                    self._bits.fill_(-1)
                self._ready = True
            return self._bits

    def accept(self, token: int) -> None:
        """Go on by a token. Raises GrammarFailed."""
        with self._lock:
            self._ready = False
            self._matcher.consume(token)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits (1, width) with minus infinity where the grammar forbids an id."""
        return apply_masks(logits, self.prepare(), [0])


class SamplingState:
    """How one reply's tokens are chosen: all that is neither in the model nor in the generator's sampler, which only
    draws from what is left.

    A fault of one reply is its own: it is kept in `error`, and nothing is raised into the step of the others.
    """

    def __init__(self, job: GenerationJob, index: int, matcher: Matcher | None, vocab_size: int) -> None:
        """`index` is the reply's among the job's."""
        self.seed = chat_engine.reply_seed(job.sampling, index)
        self.mask = None if matcher is None else Mask(matcher)
        self.error: APIError | None = None
        self._penalties = Penalties.of(job.sampling, job.prompt, job.stop_token_ids, vocab_size)
        self._vocab_size = vocab_size
        self._top_logprobs = job.top_logprobs
        self._logits: torch.Tensor | None = None
        self._finite: torch.Tensor | None = None
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []

    @property
    def sequential(self) -> bool:
        """Whether a choice depends on the one before it, so that several cannot be made at once."""
        return self.mask is not None or self._penalties is not None or self._top_logprobs is not None

    def process(self, logits: torch.Tensor, *, check: bool) -> torch.Tensor:
        """The logits (1, width) to draw the next token from, before a grammar's mask: penalties and bias are applied,
        and what log-probabilities need is kept.

        With `check` the logits are checked for being finite here, which waits for a GPU; else when a token is chosen.
        """
        self._finite = torch.isfinite(logits.max())
        if check and not bool(self._finite):
            self._fail(_NOT_FINITE)
            return torch.zeros_like(logits)
        try:
            changed = self._penalize(logits)
            if self._top_logprobs is not None:
                # A copy: the generator's sampler writes into what it is given.
                self._logits = changed[:, : self._vocab_size].clone()
        except Exception:
            log.exception("a token could not be prepared")
            self._fail("its logits could not be changed")
            return logits
        return changed

    def accept(self, token: int) -> None:
        """Take note of a chosen token."""
        self._tokens.append(token)
        if self._finite is not None and not bool(self._finite):
            self._fail(_NOT_FINITE)
            return
        try:
            if self._logits is not None:
                (found,) = log_probabilities(self._logits, [token], [self._top_logprobs])
                if found is not None:
                    self._logprobs.append(found)
            if self._penalties is not None:
                self._penalties.add(token)
            if self.mask is not None:
                self.mask.accept(token)
        except GrammarFailed as error:
            self.error = error
        except Exception:
            log.exception("a token could not be noted")
            self._fail("its token could not be noted")

    def take(self) -> tuple[list[int], list[TokenLogprob]]:
        """The tokens since the last call, and their log-probabilities where the job asks for them. Raises what keeps
        the reply from going on."""
        error = self.error or (self.mask.error if self.mask is not None else None)
        if error is not None:
            raise error
        tokens, logprobs = self._tokens, self._logprobs
        self._tokens, self._logprobs = [], []
        return tokens, logprobs

    def _penalize(self, logits: torch.Tensor) -> torch.Tensor:
        penalties = self._penalties
        if penalties is None:
            return logits
        changed = apply_penalties(logits, [penalties])
        if penalties.forbids_stops and self.mask is not None:
            allowed = self.mask.apply(changed)
            if not bool((allowed > float("-inf")).any()):
                # The grammar is complete before `min_tokens`: nothing is left but to end.
                penalties.allow_stops()
                changed = apply_penalties(logits, [penalties])
        return changed

    def _fail(self, reason: str) -> None:
        log.error("a reply ends: %s", reason)
        self.error = request_failed()


class Reply(chat_engine.Reply):
    """A reply, and where it is in the generator."""

    def __init__(
        self,
        job: GenerationJob,
        results: ResultQueue[TokenBatch],
        index: int,
        matcher: Matcher | None,
        vocab_size: int,
    ) -> None:
        super().__init__(job, results, index)
        self.sampling = SamplingState(job, index, matcher, vocab_size)
        self.cached: int | None = None
        """The number of cached prompt tokens that its consumer has been told; None before it is admitted."""
        self.counted = index > 0
        """Its prompt is in the engine's counters. It is the first reply's, which also tells of it."""
        self.released = False
        """Its session has been released while it ran: it leaves nothing behind."""
        self.run: Any = None
        """The generator's own job, once it has one."""
