"""The jobs and replies of a chat engine: the same for all of ARK's chat engines.

Importing this module imports no engine's library.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, Self, TypeAlias, TypeVar

import msgspec

from ark.engines.chat import BackendStatus, GenerationJob, SamplingParams, TokenBatch, TokenLogprob
from ark.errors import APIError, BadRequest, ContextLengthExceeded, TooManyRequests
from ark_backends.kit.admission import request_failed
from ark_backends.kit.engine import Engine
from ark_backends.kit.results import ResultQueue, TokenQueue

if TYPE_CHECKING:
    from ark_backends.kit.grammar import Matcher

log = logging.getLogger("ark.engine")


@dataclass(frozen=True)
class ChatLimits:
    """What a chat engine may take."""

    context_length: int
    max_running: int
    max_queue: int


class Reply:
    """One of the `n` replies of a job, on the engine's thread."""

    def __init__(self, job: GenerationJob, results: ResultQueue[TokenBatch], index: int) -> None:
        self.job = job
        self.results = results
        self.index = index
        self.followers: list[Self] = []
        """The job's other replies, which wait for this one to have computed the prompt."""


S = TypeVar("S", bound=Reply)


def next_waiting(waiting: Collection[S], running: Iterable[Reply]) -> S:
    """Which reply is to run next: the first of the owner with the fewest running ones."""
    owners = Counter(reply.job.owner for reply in running)
    return min(waiting, key=lambda reply: owners[reply.job.owner])


def reply_seed(sampling: SamplingParams, index: int) -> str | None:
    """The seed of one of a job's replies, each of which draws its own numbers."""
    if sampling.seed is None:
        return None
    # As text, because random.Random takes -1 and 1 for the same seed.
    return f"{sampling.seed}/{index}" if index else str(sampling.seed)


ChatJob: TypeAlias = "tuple[GenerationJob, Matcher | None]"


class ChatEngine(Engine[ChatJob, TokenBatch], Generic[S]):
    """An engine whose jobs have replies of type S. A subclass computes them, and calls `_send` with their tokens."""

    def __init__(self, limits: ChatLimits, *, vocab_size: int, name: str) -> None:
        super().__init__(name, replies=limits.max_running + limits.max_queue)
        self.limits = limits
        self._vocab_size = vocab_size
        self._waiting: deque[S] = deque()
        self._replies: dict[ResultQueue[TokenBatch], list[S]] = {}
        """The replies of each job that are not over, those that wait included."""

    def submit(self, job: GenerationJob, matcher: Matcher | None = None) -> TokenQueue:
        """Queue a job; its batches arrive in the queue returned. Raises the errors of `ChatBackend.generate`.

        `matcher` is the job's grammar, compiled; it belongs to the engine from now on.
        """
        self._check(job)
        results = TokenQueue()
        if not self._admission.enter(results, job.owner, replies=job.n):
            raise TooManyRequests("Too many requests are waiting for this model.", code="queue_full")
        self._submit(results, (job, matcher))
        return results

    def release(self, session: str) -> None:
        """Forget the KV of a session, before the next step."""
        self._call(self._release, session)

    @abstractmethod
    def status(self) -> BackendStatus: ...

    def _status(self, *, running: int, kv_bytes: int, kv_budget: int) -> BackendStatus:
        waiting = max(0, self._admission.taken("replies") - running)
        counted = self._counted()
        return BackendStatus(running=running, waiting=waiting, kv_bytes=kv_bytes, kv_budget=kv_budget, **counted)

    def _check(self, job: GenerationJob) -> int:
        """Refuse a job that could never run. Returns its tokens, those to be generated included.

        Raises BadRequest, and ContextLengthExceeded where it is too long.
        """
        if not job.prompt or job.max_tokens < 1 or job.n < 1:
            raise BadRequest("A prompt of at least one token, max_tokens and n of at least 1 are needed.")
        if min(job.prompt) < 0 or max(job.prompt) >= self._vocab_size:
            # Out of range, the lookup would fail the whole step, and on a GPU the process.
            raise BadRequest("The prompt has a token id that the model does not know.")
        total, longest = len(job.prompt) + job.max_tokens, self.limits.context_length
        if total > longest:
            raise ContextLengthExceeded(
                f"This model reads and writes at most {longest} tokens; "
                f"{len(job.prompt)} in the prompt and {job.max_tokens} to generate are {total}."
            )
        return total

    # On the engine's thread.

    @property
    def _busy(self) -> bool:
        return bool(self._replies)

    @abstractmethod
    def _make(self, job: GenerationJob, results: ResultQueue[TokenBatch], index: int, matcher: Matcher | None) -> S:
        """A reply of a job."""

    @abstractmethod
    def _remove(self, reply: S, *, ended: bool = False, cancelled: bool = False, suspect: bool = False) -> None:
        """Take a reply out of what runs or waits, and keep its KV as a cache.

        `ended`: the engine has ended it. `cancelled`: with its job. `suspect`: it was in a step that failed, and nobody
        knows what that has written.
        """

    @abstractmethod
    def _release(self, session: str) -> None: ...

    def _begin(self, results: ResultQueue[TokenBatch], job: ChatJob) -> None:
        request, matcher = job
        # Only the first reply belongs to the session: the others would take its KV over.
        others = msgspec.structs.replace(request, session=None) if request.n > 1 else request
        try:
            forks = [None if matcher is None else matcher.fork() for _ in range(1, request.n)]
            leader = self._make(request, results, 0, matcher)
            leader.followers = [self._make(others, results, index, fork) for index, fork in enumerate(forks, 1)]
        except Exception:
            # What is wrong with one request is not the others' trouble.
            log.exception("request %s could not be prepared", request.request_id)
            self._fail(results, request_failed())
            return
        self._replies[results] = [leader]
        self._waiting.append(leader)

    def _send(
        self,
        reply: S,
        token_ids: Sequence[int],
        reason: Literal["stop", "length"] | None,
        logprobs: Sequence[TokenLogprob] = (),
    ) -> None:
        """Send a reply's new tokens, and with a reason its end."""
        self._counters["tokens_generated"] += len(token_ids)
        if token_ids and reply.followers:
            # The prompt is computed now, and the other replies begin with its KV.
            self._replies[reply.results] += reply.followers
            self._waiting.extendleft(reversed(reply.followers))
            reply.followers = []
        batch = TokenBatch(token_ids=token_ids, finish_reason=reason, index=reply.index, logprobs=logprobs)
        self._results.add(reply.results, batch)
        if reason is not None:
            self._finish(reply, ended=True)

    def _finish(self, reply: S, *, ended: bool) -> None:
        """Take a reply out that is over; its job is finished with the last one."""
        self._remove(reply, ended=ended)
        alive = self._replies[reply.results]
        alive.remove(reply)
        if not alive:
            del self._replies[reply.results]
            self._admission.leave(reply.results, "finished")

    def _end_dropped(self) -> None:
        """End the replies that the server has seen the end of, while others of their job go on."""
        dropped = [
            reply
            for alive in self._replies.values()
            for reply in alive
            if reply.index in reply.job.dropped and not reply.followers
        ]
        for reply in dropped:
            self._results.add(reply.results, TokenBatch(finish_reason="stop", index=reply.index))
            self._finish(reply, ended=False)

    def _abandon(self, results: ResultQueue[TokenBatch]) -> None:
        for reply in self._replies.pop(results, ()):
            # The KV computed so far is valid; keep it as cache.
            self._remove(reply, cancelled=True)

    def _fail_jobs(self, failed: Collection[S], error: APIError | None = None) -> None:
        """End the jobs of these replies, which were in a step that failed."""
        for results in dict.fromkeys(reply.results for reply in failed):
            self._fail(results, error or request_failed())
            for reply in self._replies.pop(results, ()):
                self._remove(reply, suspect=reply in failed)

    def _clear(self) -> None:
        self._replies.clear()
        self._waiting.clear()
