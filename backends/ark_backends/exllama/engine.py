"""The engine: steps of a generator of ExLlama's."""

from __future__ import annotations

import logging
from typing import Literal

from ark.engines.chat import BackendStatus, GenerationJob, TokenBatch
from ark.errors import APIError
from ark_backends.exllama.generator import Generator
from ark_backends.exllama.reply import Reply
from ark_backends.kit.chat_engine import ChatEngine, ChatLimits, next_waiting
from ark_backends.kit.grammar import Matcher
from ark_backends.kit.results import ResultQueue

log = logging.getLogger("ark.exllama")


class ExLlamaEngine(ChatEngine[Reply]):
    """Runs jobs on a generator. A job that would not fit the cache is over the context length."""

    def __init__(self, generator: Generator, limits: ChatLimits, name: str = "model") -> None:
        super().__init__(limits, vocab_size=generator.vocab_size, name=name)
        self._generator = generator
        # What `status` tells other threads; the generator is for this engine's only.
        self._running = self._kv_used = 0
        self._kv_budget = generator.pages.total
        self._pages_changed = False
        """Pages have been given or taken since `_kv_used` was measured."""
        self._inconsistent = False
        """A reply could not be taken out: nobody knows what is left of the others."""

    def status(self) -> BackendStatus:
        return self._status(running=self._running, kv_bytes=self._kv_used, kv_budget=self._kv_budget)

    # On the engine's thread.

    def _make(self, job: GenerationJob, results: ResultQueue[TokenBatch], index: int, matcher: Matcher | None) -> Reply:
        return Reply(job, results, index, matcher, self._vocab_size)

    def _step(self) -> None:
        self._end_dropped()
        if self._inconsistent:
            self._inconsistent = False
            self._step_failed()
        self._feed()
        if self._generator.load:
            self._compute()
        self._running = len(self._generator.running())
        if self._pages_changed:
            self._pages_changed = False
            self._kv_used = self._generator.pages.used()

    def _feed(self) -> None:
        """Give the generator what it has room for: it looks at all that waits there in every step."""
        while self._waiting and self._generator.load < self.limits.max_running:
            reply = next_waiting(self._waiting, [*self._generator.running(), *self._generator.pending()])
            self._waiting.remove(reply)
            try:
                self._generator.begin(reply)
            except Exception:
                log.exception("request %s could not be queued", reply.job.request_id)
                self._fail_jobs([reply])

    def _compute(self) -> None:
        try:
            ended = self._generator.step()
        except Exception:
            log.exception("a step failed")
            self._step_failed()
            return
        self._counters["steps"] += 1
        for reply in self._generator.running():
            self._emit(reply)
        for reply, reason in ended:
            if reason == "error":
                self._fail_jobs([reply])
            else:
                self._emit(reply, reason)
        self._count_step(failed=any(reason == "error" for _, reason in ended))

    def _step_failed(self) -> None:
        # Nobody knows whose fault it was: all that were in the step fail, also those that came to their end in it.
        # Those that waited for pages stay.
        outside = {*self._waiting, *self._generator.pending()}
        failed = [reply for alive in self._replies.values() for reply in alive if reply not in outside]
        log.error("%d replies failed with it", len(failed))
        self._generator.abandon(failed)
        self._fail_jobs(failed)
        self._count_step(failed=True)

    def _emit(self, reply: Reply, reason: Literal["stop", "length"] | None = None) -> None:
        """Send what a reply was given in this step, and with a reason its end."""
        if reply.results not in self._replies:
            # Another reply of its job has failed in this step.
            return
        try:
            tokens, logprobs = reply.sampling.take()
        except APIError as error:
            log.error("request %s: no token could be chosen: %s", reply.job.request_id, error.message)
            self._fail_jobs([reply], error)
            return
        if not reply.counted and reply.run.begun:
            self._announce(reply)
        if tokens:
            self._count_prompt(reply, len(reply.job.prompt))
        if tokens or reason is not None:
            self._send(reply, tokens, reason, logprobs)

    def _announce(self, reply: Reply) -> None:
        """Tell how much of a prompt was cached: when its first piece has been looked up, and again where more is found
        later, because another job has computed it meanwhile."""
        self._pages_changed = True
        if reply.cached != reply.run.cached:
            reply.cached = reply.run.cached
            self._results.add(reply.results, TokenBatch(cached_tokens=reply.cached))

    def _count_prompt(self, reply: Reply, read: int) -> None:
        """Count the tokens of a prompt that have been read, once it has been read or its job is over."""
        if not reply.counted and reply.run is not None:
            reply.counted = True
            self._counters["prompt_tokens_cached"] += reply.run.cached
            self._counters["prompt_tokens_computed"] += read - reply.run.cached

    def _remove(self, reply: Reply, *, ended: bool = False, cancelled: bool = False, suspect: bool = False) -> None:
        if reply in self._waiting:
            self._waiting.remove(reply)
        elif not ended:
            try:
                self._generator.cancel(reply)
            except Exception:
                # The next step begins with what a failed one ends with.
                log.exception("request %s could not be taken out", reply.job.request_id)
                self._inconsistent = True
        self._pages_changed = True
        if reply.run is not None:
            self._count_prompt(reply, reply.run.read)

    def _release(self, session: str) -> None:
        for alive in self._replies.values():
            for reply in alive:
                reply.released = reply.released or reply.job.session == session
        self._generator.pages.release(session)
        self._pages_changed = True

    def _clear(self) -> None:
        super()._clear()
        self._running = self._kv_used = 0

    def _free(self) -> None:
        try:
            self._generator.close()
        except Exception:
            log.exception("the model could not be freed")
        # The weights go with the last reference to the generator.
        del self._generator
