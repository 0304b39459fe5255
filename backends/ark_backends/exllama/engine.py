"""The engine: one thread that takes jobs in, lets the generator step, and hands tokens out."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from queue import Empty
from typing import Literal

from ark.engines.chat import BackendStatus, TokenBatch
from ark.errors import APIError
from ark_backends.exllama.face import Face
from ark_backends.exllama.reply import Reply, replies
from ark_backends.kit.engine import MAX_FAILURES, Cancel, EngineLimits, EngineThread, Release, Submit, request_failed
from ark_backends.kit.results import Mailbox

log = logging.getLogger("ark.exllama")


class Engine(EngineThread):
    """Runs jobs on a generator. A job that would not fit the cache is over the context length."""

    def __init__(self, face: Face, limits: EngineLimits, name: str = "model") -> None:
        super().__init__(self._run, limits, vocab_size=face.vocab_size, name=name)
        self._face = face
        self._waiting: deque[Reply] = deque()
        self._replies: dict[Mailbox, list[Reply]] = {}
        """The replies of each job that are not over, those that wait included."""
        self._kv_used = 0
        self._moved = False
        """Pages have been given or taken since `_kv_used` was measured."""
        self._kv_budget = face.pages.total
        self._failures = 0
        self._spoilt = False
        """A reply could not be taken out: nobody knows what is left of the others."""
        self._running = 0

    def status(self) -> BackendStatus:
        return self._status(running=self._running, kv_bytes=self._kv_used, kv_budget=self._kv_budget)

    # On the engine's thread.

    def turn(self, *, wait: bool) -> bool:
        """Take in what has come, let the generator step once, and hand out. False when the engine is to end.

        With `wait` it waits for something to do.
        """
        if not self._take_in(wait=wait):
            return False
        self._step()
        self._measure()
        self._hand_out()
        return True

    def _run(self) -> None:
        try:
            while self.turn(wait=True):
                pass
        except BaseException:
            log.exception("the engine's thread died")
        finally:
            self._end()

    def _take_in(self, *, wait: bool) -> bool:
        """Handle all messages. False when the engine is to end."""
        while True:
            self._measure()
            try:
                message = self._inbox.get(block=wait and not self._replies)
            except Empty:
                return True
            if isinstance(message, Submit):
                self._begin(message)
            elif isinstance(message, Cancel):
                self._cancel(message.mailbox)
            elif isinstance(message, Release):
                self._release(message.session)
            else:
                return False

    def _begin(self, message: Submit) -> None:
        try:
            leader = replies(message.job, message.mailbox, message.matcher, self._vocab_size)
        except Exception:
            log.exception("request %s could not be prepared", message.job.request_id)
            self._refuse(message)
            self._hand_out()
            return
        self._replies[message.mailbox] = [leader]
        self._waiting.append(leader)

    def _step(self) -> None:
        self._drop_unwanted()
        if self._spoilt:
            self._spoilt = False
            self._step_failed()
        self._feed()
        if not self._face.load:
            return
        try:
            ended = self._face.step()
        except Exception:
            log.exception("a step failed")
            self._step_failed()
            return
        self._count.steps += 1
        for reply in self._face.running():
            self._emit(reply)
        for reply, reason in ended:
            if reason == "error":
                self._fail([reply])
            else:
                self._emit(reply, reason)
        self._count_failure(failed=any(reason == "error" for _, reason in ended))

    def _feed(self) -> None:
        """Give the generator what it has room for: what waits there is looked at in every step."""
        while self._waiting and self._face.load < self.limits.max_running:
            reply = self._waiting.popleft()
            try:
                self._face.begin(reply)
            except Exception:
                log.exception("request %s could not be queued", reply.job.request_id)
                self._fail([reply])

    def _step_failed(self) -> None:
        # Whose fault it was nobody knows: all that were in the step go, those too that had come to their end in it, and
        # those that waited for pages stay.
        kept = {*self._waiting, *self._face.pending()}
        failed = [reply for alive in self._replies.values() for reply in alive if reply not in kept]
        log.error("%d replies failed with it", len(failed))
        self._face.abandon(failed)
        self._fail(failed)
        self._count_failure(failed=True)

    def _count_failure(self, *, failed: bool) -> None:
        self._failures = self._failures + 1 if failed else 0
        if self._failures >= MAX_FAILURES:
            raise RuntimeError(f"{self._failures} steps failed in a row")

    def _emit(self, reply: Reply, reason: Literal["stop", "length"] | None = None) -> None:
        """Send what a reply has said in this step, and with a reason its end."""
        if reply.mailbox not in self._replies:
            # Another reply of its job has failed in this step.
            return
        try:
            tokens, logprobs = reply.voice.take()
        except APIError as error:
            log.error("request %s: no token could be chosen: %s", reply.job.request_id, error.message)
            self._fail([reply], error)
            return
        if not reply.counted:
            self._tell_cached(reply)
        if tokens:
            self._count_prompt(reply, len(reply.job.prompt))
            self._count.tokens_generated += len(tokens)
            reply.sent += len(tokens)
            self._follow(reply)
        if tokens or reason is not None:
            batch = TokenBatch(token_ids=tokens, finish_reason=reason, index=reply.index, logprobs=logprobs)
            self._outbox.add(reply.mailbox, batch)
        if reason is not None and self._leave(reply):
            self._count.jobs_finished += 1

    def _tell_cached(self, reply: Reply) -> None:
        """Tell what was found of a prompt: when its first piece has been looked up, and again where more is found
        later, because another job has computed it meanwhile."""
        if not reply.run.begun:
            return
        self._moved = True
        if reply.cached != reply.run.cached:
            reply.cached = reply.run.cached
            self._outbox.add(reply.mailbox, TokenBatch(cached_tokens=reply.cached))

    def _count_prompt(self, reply: Reply, read: int) -> None:
        """Count the tokens of a prompt that have been read, once it has been read or its job is over."""
        if reply.counted or reply.run is None:
            return
        reply.counted = True
        self._count.prompt_tokens_cached += reply.run.cached
        self._count.prompt_tokens_computed += read - reply.run.cached

    def _follow(self, leader: Reply) -> None:
        """Let the other replies in: the prompt is computed now, and they find its pages."""
        if leader.followers:
            self._replies[leader.mailbox] += leader.followers
            self._waiting.extendleft(reversed(leader.followers))
            leader.followers = []

    def _drop_unwanted(self) -> None:
        """End the replies that the server has seen the end of, while others of their job go on."""
        unwanted = [
            reply
            for alive in self._replies.values()
            for reply in alive
            if reply.index in reply.job.dropped and not reply.followers
        ]
        for reply in unwanted:
            self._take_out(reply)
            self._outbox.add(reply.mailbox, TokenBatch(finish_reason="stop", index=reply.index))
            if self._leave(reply):
                self._count.jobs_finished += 1

    def _cancel(self, mailbox: Mailbox) -> None:
        alive = list(self._replies.get(mailbox, ()))
        if alive:
            self._count.jobs_cancelled += 1
        for reply in alive:
            # What was computed is right, only unwanted: it may still serve as a cache.
            self._take_out(reply)
            self._leave(reply)

    def _release(self, session: str) -> None:
        for alive in self._replies.values():
            for reply in alive:
                reply.released = reply.released or reply.job.session == session
        self._face.pages.release(session)
        self._moved = True

    def _fail(self, failed: Sequence[Reply], error: APIError | None = None) -> None:
        """End the jobs of these replies."""
        for mailbox in dict.fromkeys(reply.mailbox for reply in failed if reply.mailbox in self._replies):
            self._outbox.add(mailbox, error or request_failed())
            self._count.jobs_failed += 1
            for reply in list(self._replies[mailbox]):
                self._take_out(reply)
                self._leave(reply)

    def _take_out(self, reply: Reply) -> None:
        if reply in self._waiting:
            self._waiting.remove(reply)
            return
        try:
            self._face.cancel(reply)
        except Exception:
            # The next step begins with what a failed one ends with.
            log.exception("request %s could not be taken out", reply.job.request_id)
            self._spoilt = True

    def _leave(self, reply: Reply) -> bool:
        """Note that a reply is over; True when its job is over with it."""
        self._moved = True
        if reply.run is not None:
            self._count_prompt(reply, reply.run.read)
        alive = self._replies[reply.mailbox]
        alive.remove(reply)
        if alive:
            return False
        del self._replies[reply.mailbox]
        self._door.leave(reply.mailbox)
        return True

    def _measure(self) -> None:
        """Take the numbers that the status tells other threads."""
        self._running = len(self._face.running())
        if self._moved:
            self._moved = False
            self._kv_used = self._face.pages.used()

    def _hand_out(self) -> None:
        for mailbox in self._outbox.flush():
            self._cancel(mailbox)

    def _end(self) -> None:
        self._dismiss()
        self._replies.clear()
        self._waiting.clear()
        self._running = self._kv_used = 0
        try:
            self._face.close()
        except Exception:
            log.exception("the model could not be freed")
        # The backend keeps the engine for its status; the weights go with the last reference to the face.
        del self._face
