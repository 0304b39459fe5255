"""Tasks that are passed on to OpenAI's own routes of engines elsewhere: embeddings and transcriptions."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

import httpx2

from ark.concurrency import load_in_thread
from ark.config import ConfigError, ModelConfig
from ark.errors import APIError, BadRequest, TooManyRequests, Unavailable
from ark_backends.remote.api import found, listed
from ark_backends.remote.client import Clients, EngineBusy, EngineDown, EngineRefused
from ark_backends.remote.opening import CHECK_TIMEOUT, asked_for_health, first_that_answers
from ark_backends.remote.options import RemoteOptions
from ark_backends.remote.upstreams import HealthChecks, Unfit, Upstream, Upstreams

log = logging.getLogger("ark.remote")

T = TypeVar("T")

TRIES = 2
"""Engines that a job is tried at."""


class PassingBackend:
    """What both tasks share: engines that are well, and a second one where the first fails."""

    def __init__(self, model: ModelConfig, options: RemoteOptions, clients: Clients) -> None:
        self._model, self._options, self._clients = model, options, clients
        self._upstreams = Upstreams(options.urls, max(1, model.max_queue // len(options.urls)))
        self._health = HealthChecks(self._upstreams.all, options.health_seconds, self._ask, self._join)
        self._counters: Counter[str] = Counter()
        self._closed = False
        self._at_engine = options.model or ""
        """The model's name there."""

    @classmethod
    async def open(cls, model: ModelConfig) -> Self:
        options = model.engine_options(RemoteOptions)
        clients = Clients(options)
        backend = cls(model, options, clients)
        try:
            await load_in_thread(lambda: first_that_answers(options, backend._first))
        except BaseException:
            await clients.close()
            raise
        await load_in_thread(backend._health.check_all)
        backend._health.start()
        return backend

    async def close(self) -> None:
        self._closed = True
        self._health.close()
        await self._clients.close()

    def _ask(self, url: str) -> None:
        asked_for_health(self._clients, url)

    def _join(self, url: str) -> None:
        try:
            self._first(url)
        except ConfigError as error:
            raise Unfit(str(error)) from error

    def _first(self, url: str) -> None:
        """Look at an engine. Raises Unfit, and ConfigError where it has no such model."""
        self._ask(url)
        with self._clients.checking(url, CHECK_TIMEOUT) as http:
            try:
                models = found(http, "/v1/models")
                entry = {} if models is None else listed(models, self._options.model)
                self._at_engine = str(entry.get("id", self._at_engine))
                self._describe(http, entry)
            except LookupError as error:
                raise ConfigError(f"{url}: {error}") from error
            except (httpx2.HTTPError, OSError) as error:
                raise Unfit(str(error) or type(error).__name__) from error

    def _describe(self, http: httpx2.Client, entry: Any) -> None:
        """Take what there is to know of the model from the engine's list, or from a trial."""

    def _counted(self) -> dict[str, Any]:
        """The fields of an `EngineStatus`."""
        everyone = self._upstreams.all
        return {
            "alive": not self._closed and any(one.up for one in everyone),
            "running": sum(one.running for one in everyone),
            "upstreams": tuple(one.status() for one in everyone),
            **self._counters,
        }

    async def _passed(self, request_id: str, send: Callable[[str], Awaitable[T]]) -> T:
        """What `send` brings from an engine's URL. Raises the errors of the protocols."""
        outcome = "jobs_cancelled"
        try:
            result = await self._tried(request_id, send)
            outcome = "jobs_finished"
            return result
        except APIError:
            outcome = "jobs_failed"
            raise
        finally:
            self._counters[outcome] += 1

    async def _tried(self, request_id: str, send: Callable[[str], Awaitable[T]]) -> T:
        if self._closed:
            raise Unavailable("The model is being unloaded.", code="engine_closed")
        tried: list[Upstream] = []
        reason: EngineDown | None = None
        while len(tried) < TRIES and (upstream := self._upstreams.choose(request_id, (), tried)) is not None:
            tried.append(upstream)
            try:
                return await self._at(upstream, send)
            except EngineDown as error:
                log.warning("request %s: %s: %s", request_id, upstream.url, error)
                reason = error
                if not isinstance(error, EngineBusy):
                    upstream.fail(error)
                    self._health.wake()
            except EngineRefused as error:
                log.error("request %s: %s refuses it: %s", request_id, upstream.url, error)
                raise BadRequest("The model's engine refuses this request.", code="engine_refused") from error
        if isinstance(reason, EngineBusy) or reason is None:
            raise TooManyRequests("Too many requests are waiting for this model.", code="queue_full")
        raise Unavailable("The model's engine has failed.", code="engine_failed") from reason

    async def _at(self, upstream: Upstream, send: Callable[[str], Awaitable[T]]) -> T:
        upstream.running += 1
        upstream.waiting += 1
        outcome = "cancelled"
        try:
            result = await send(upstream.url)
            outcome = "finished"
            return result
        except EngineDown:
            outcome = "failed"
            raise
        finally:
            upstream.running -= 1
            upstream.waiting -= 1
            upstream.jobs[outcome] += 1
