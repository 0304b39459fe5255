"""A chat model that runs in engines elsewhere."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import msgspec

from ark.concurrency import load_in_thread
from ark.config import ModelConfig
from ark.engines.backend import Capabilities
from ark.engines.chat import BackendStatus, ChatBackend, GenerationJob, SamplingParams, TokenBatch
from ark.engines.parameters import CHAT, honoured
from ark.errors import BadRequest, ContextLengthExceeded, TooManyRequests, Unavailable
from ark_backends.kit.grammar import Grammars
from ark_backends.kit.grammar_queue import GrammarQueue
from ark_backends.kit.tokenizer import HFTokenizer
from ark_backends.remote.api import FORMATS, TOOLS, Asked, with_usual_spaces
from ark_backends.remote.client import Clients, Connection, EngineBusy, EngineDown, EngineRefused
from ark_backends.remote.opening import Checker, Opened, find_tokenizer, open_tokenizer
from ark_backends.remote.options import RemoteOptions
from ark_backends.remote.reply import Reply
from ark_backends.remote.upstreams import HealthChecks, Unfit, Upstream, Upstreams, beginnings

log = logging.getLogger("ark.remote")

TRIES = 2
"""Engines that a job is tried at."""

EMPTY = TokenBatch()


@dataclass
class _Run:
    """A job on its way."""

    job: GenerationJob
    replies: list[Reply]
    beginnings: list[bytes]
    tried: list[Upstream] = field(default_factory=list)
    begun: bool = False
    """Tokens have been passed on, so that no other engine may begin anew."""


@dataclass(frozen=True)
class Parts:
    """What a model's engines are reached and understood with."""

    model: ModelConfig
    options: RemoteOptions
    clients: Clients
    tokenizer: HFTokenizer
    sampling: SamplingParams
    checker: Checker
    opened: Opened
    """The first engine that answered."""


class RemoteChat:
    """`ark.engines.chat.ChatBackend` over the engines of a list of URLs."""

    def __init__(self, parts: Parts) -> None:
        model, options, self._opened = parts.model, parts.options, parts.opened
        self.tokenizer = tokenizer = parts.tokenizer
        self.default_sampling = parts.sampling
        longest = self._opened.description.context_length
        self.context_length = min(model.context_length or longest, longest)
        self._name, self._options, self._clients, self._checker = model.name, options, parts.clients, parts.checker
        self._grammars = GrammarQueue(
            Grammars(tokenizer.tokens, hidden=tokenizer.hidden, ends=tokenizer.stop_token_ids)
        )
        self._upstreams = Upstreams(options.urls, max(1, model.max_queue // len(options.urls)))
        self._health = HealthChecks(self._upstreams.all, options.health_seconds, parts.checker.ask, self._join)
        self._counters: Counter[str] = Counter()
        self._closed = False

    @classmethod
    async def open(cls, model: ModelConfig) -> Self:
        options = model.engine_options(RemoteOptions)
        tokenizer, sampling = await load_in_thread(lambda: open_tokenizer(find_tokenizer(model)))
        clients = Clients(options)
        try:
            checker = Checker(options, clients, tokenizer)
            opened = await load_in_thread(checker.wait)
        except BaseException:
            await clients.close()
            raise
        backend = cls(Parts(model, options, clients, tokenizer, sampling, checker, opened))
        await load_in_thread(backend._check_all)
        backend._health.start()
        return backend

    def _check_all(self) -> None:
        self._health.check_all()
        kind, found = self._opened.api, self._opened.description
        log.info("%s: %s %s, context %d", self._name, kind.name, found.detail, self.context_length)
        if not self._opened.grammars:
            log.warning("%s: the engine keeps to no grammars: response_format and tools are refused", self._name)
        elif self._opened.spells_tags:
            log.warning("%s: by a grammar the engine spells the tags of tool calls: tools are refused", self._name)

    def _join(self, url: str) -> None:
        """Let an engine in that was not there. Raises Unfit."""
        try:
            found = self._checker.check(url)
        except Exception as error:
            raise Unfit(str(error)) from error
        first = self._opened
        if found.api.name != first.api.name or found.description.context_length < self.context_length:
            raise Unfit(
                f"it is not like the first engine: {found.api.name}, context {found.description.context_length}"
            )
        if (found.grammars, found.repeats_spaces) != (first.grammars, first.repeats_spaces):
            raise Unfit("it does not keep to grammars as the first engine does")

    @property
    def capabilities(self) -> Capabilities:
        beyond = self._opened.api.unsupported
        if not self._opened.grammars or self._opened.spells_tags:
            beyond |= TOOLS if self._opened.grammars else FORMATS
        template = self.tokenizer.chat_template or ""
        return Capabilities(parameters=honoured(CHAT) - beyond, reasoning="<think>" in template)

    def status(self) -> BackendStatus:
        all_ = self._upstreams.all
        waiting = sum(one.waiting for one in all_)
        return BackendStatus(
            alive=not self._closed and any(one.up for one in all_),
            running=sum(one.running for one in all_) - waiting,
            waiting=waiting,
            upstreams=tuple(one.status() for one in all_),
            **self._counters,
        )

    def release(self, session: str) -> None:
        """Forget where a conversation was. Its state stays in the engine until that needs the memory."""
        self._upstreams.forget(session)

    async def close(self) -> None:
        self._closed = True
        self._health.close()
        self._grammars.close()
        await self._clients.close()

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenBatch, None]:
        self._check(job)
        matcher = None
        if job.grammar is not None:
            matcher = await self._grammars.compile(job.grammar, job.owner)
            if self._opened.repeats_spaces:
                job = msgspec.structs.replace(job, grammar=with_usual_spaces(job.grammar))
        forks = [matcher, *(None if matcher is None else matcher.fork() for _ in range(1, job.n))]
        replies = [Reply(job, index, fork, self.tokenizer.hidden) for index, fork in enumerate(forks)]
        run = _Run(job, replies, beginnings(job.owner, job.prompt) if len(self._upstreams.all) > 1 else [])
        outcome = "jobs_cancelled"
        try:
            async with aclosing(self._tried(run)) as batches:
                async for batch in batches:
                    if all(reply.over for reply in run.replies):
                        # The server closes the job when it has the last batch.
                        outcome = "jobs_finished"
                    yield batch
        except Exception:
            outcome = "jobs_failed"
            raise
        finally:
            self._counters[outcome] += 1

    def _check(self, job: GenerationJob) -> None:
        """Refuse what the engine would refuse, or answer otherwise than it was meant."""
        if self._closed:
            raise Unavailable("The model is being unloaded.", code="engine_closed")
        if len(job.prompt) + job.max_tokens > self.context_length:
            raise ContextLengthExceeded(f"This model reads and writes at most {self.context_length} tokens.")
        if job.n > self._opened.description.replies:
            raise BadRequest(f"This model gives at most {self._opened.description.replies} replies.", param="n")
        params = job.sampling
        penalties = (params.repetition_penalty, params.frequency_penalty, params.presence_penalty)
        if job.top_logprobs is not None and (params.logit_bias or penalties != (1, 0, 0)):
            raise BadRequest(
                "This model's log-probabilities are those before penalties and bias: ask for one or the other.",
                param="logprobs",
                code="unsupported_parameter",
            )

    async def _tried(self, run: _Run) -> AsyncGenerator[TokenBatch, None]:
        """The batches of a job, at another engine where the first one fails before the first token."""
        reason: EngineDown | None = None
        while len(run.tried) < TRIES:
            upstream = self._upstreams.choose(run.job.session, run.beginnings, run.tried)
            if upstream is None:
                break
            run.tried.append(upstream)
            try:
                async with aclosing(self._at(upstream, run)) as batches:
                    async for batch in batches:
                        yield batch
                return
            except EngineDown as error:
                log.warning("request %s: %s: %s", run.job.request_id, upstream.url, error)
                reason = error
                if not isinstance(error, EngineBusy):
                    upstream.fail(error)
                    self._health.wake()
                if run.begun:
                    break
            except EngineRefused as error:
                log.error("request %s: %s refuses it: %s", run.job.request_id, upstream.url, error)
                raise BadRequest("The model's engine refuses this request.", code="engine_refused") from error
        if isinstance(reason, EngineBusy) or (reason is None and any(one.up for one in self._upstreams.all)):
            raise TooManyRequests("Too many requests are waiting for this model.", code="queue_full")
        raise Unavailable("The model's engine has failed.", code="engine_failed") from reason

    async def _at(self, upstream: Upstream, run: _Run) -> AsyncGenerator[TokenBatch, None]:
        """The batches of a job at one engine."""
        job = run.job
        upstream.running += 1
        upstream.waiting += 1
        waits, admitted, outcome = True, False, "cancelled"
        try:
            asked = self._asked(job, goes_on=self._upstreams.is_at(job.session, upstream))
            engine = Connection(self._clients, upstream.url)
            async with aclosing(self._opened.api.generate(engine, job, asked)) as batches:
                async for batch in batches:
                    if batch.token_ids and waits:
                        upstream.waiting, waits, run.begun = upstream.waiting - 1, False, True
                        self._upstreams.stay(job.session, run.beginnings, upstream)
                    reply = run.replies[batch.index]
                    passed = None if reply.over else reply.take(batch)
                    if passed is not None:
                        self._count(passed, job)
                    ended = [last for one in run.replies if (last := one.drop()) is not None]
                    if all(one.over for one in run.replies):
                        outcome = "finished"
                    if passed is not None and not (admitted and passed == EMPTY):
                        admitted = True
                        yield passed
                    for last in ended:
                        yield last
                    if outcome == "finished":
                        return
            raise EngineDown("it ended a reply without a reason")
        except EngineDown:
            outcome = "failed"
            raise
        finally:
            upstream.running -= 1
            upstream.waiting -= waits
            upstream.jobs[outcome] += 1

    def _count(self, batch: TokenBatch, job: GenerationJob) -> None:
        self._counters["tokens_generated"] += len(batch.token_ids)
        if batch.cached_tokens is not None:
            self._counters["prompt_tokens_cached"] += batch.cached_tokens
            self._counters["prompt_tokens_computed"] += len(job.prompt) - batch.cached_tokens

    def _asked(self, job: GenerationJob, *, goes_on: bool) -> Asked:
        priority = (0 if goes_on else 1) if self._options.priority else None
        salt = hashlib.blake2b(job.owner.encode(), key=self._clients.secret, digest_size=32).hexdigest()
        return Asked(model=self._opened.description.model, salt=salt, priority=priority)


if TYPE_CHECKING:
    _conforms: type[ChatBackend] = RemoteChat
