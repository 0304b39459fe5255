"""The ASGI application: keys, bodies and lifespan."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from ark.api.request import Request
from ark.api.routes import FILES, PREFLIGHT, Route, match
from ark.config import Config, ConfigError, KeyConfig, LimitsConfig, load_config
from ark.errors import Unavailable, UnsupportedMediaType, shorten
from ark.http.cors import is_preflight
from ark.http.exchange import FAREWELL, SMALL_BODY, Exchange
from ark.http.forms import boundary_of, read_form
from ark.http.request import Body, ClientDisconnect, Receive, Scope, Send, check_head, route_path
from ark.ops import logs
from ark.ops.tracing import open_tracer
from ark.process import allocator
from ark.services import Services
from ark.sessions.storage import StorageError

log = logging.getLogger("ark.app")


class Ark:
    """The ASGI callable.

    `config` is a Config, the path of an ``ark.toml``, or None: then it is read at startup from the usual places. The
    models open in the background once the lifespan has started.
    """

    def __init__(self, config: Config | str | Path | None = None) -> None:
        self._config = config
        self._services: Services | None = None
        self._exchanges: set[Exchange] = set()
        self._idle = anyio.Event()
        self.local = False
        """Set by whoever runs the server where it is reached from this machine alone: then it may be open unwarned."""
        self.after_opening: Callable[[], object] | None = None
        """Set by whoever runs the server: called behind each model that was opened, or could not be."""

    @property
    def services(self) -> Services | None:
        """The running server's parts, None while it does not run."""
        return self._services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        else:
            raise RuntimeError(f"ARK does not speak {scope['type']!r}")

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        """Run the server's background work: for parents that do not forward ASGI's lifespan to a mounted app.

        Raises ConfigError when the configuration cannot be used, and StorageError when the sessions' file cannot.
        """
        if self._services is not None:
            raise RuntimeError("this ARK is running already")
        config = self._config if isinstance(self._config, Config) else load_config(self._config)
        logs.configure(config.server.log_level)
        allocator.tune_allocator()
        services = Services(config)
        await services.sessions.open()
        services.tracer = await anyio.to_thread.run_sync(open_tracer, os.environ)
        if services.keys.open and not self.local:
            log.warning("no API keys are configured: everyone who can reach the server may use it")
        self._services = services
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(services.registry.open, self.after_opening)
                tasks.start_soon(services.sweep)
                tasks.start_soon(services.keys.watch)
                # Kept: the task group would hand it to the parent wrapped in a group.
                try:
                    yield
                except Exception as error:  # noqa: BLE001
                    failure = error
                finally:
                    services.draining = True
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await services.registry.close()
                await services.sessions.close()
                if services.tracer is not None:
                    await services.tracer.close()
            self._services = None
        if failure is not None:
            raise failure

    async def drain(self, seconds: float | None = None) -> None:
        """Refuse new requests from now on, and return when those that are being answered have ended.

        What has not after `seconds`, ``[server] drain_seconds`` when they are not given, is broken off, and its client
        told so. For whoever runs the server, who knows that it is to stop while it still takes connections: the
        lifespan ends when they have all been closed.
        """
        services = self._services
        if services is None:
            return
        services.draining = True
        with anyio.move_on_after(services.config.server.drain_seconds if seconds is None else seconds):
            await self._wait_until_idle()
        for exchange in self._exchanges:
            exchange.stop()
        with anyio.move_on_after(2 * FAREWELL):
            await self._wait_until_idle()

    async def _wait_until_idle(self) -> None:
        while self._exchanges:
            if self._idle.is_set():
                self._idle = anyio.Event()
            await self._idle.wait()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        # Servers pass over an exception at startup and serve all the same, so a failure is said in words.
        problem = ""
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self.lifespan())
            except (ConfigError, StorageError) as error:
                problem = str(error)
            except Exception as error:
                log.exception("the server cannot start")
                problem = f"{type(error).__name__}: {error}"
            else:
                await send({"type": "lifespan.startup.complete"})
                await receive()
        if problem:
            await send({"type": "lifespan.startup.failed", "message": problem})
        else:
            await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange(scope, receive, send, self._services)
        async with AsyncExitStack() as held:
            try:
                services = self._services
                if services is None:
                    raise Unavailable("The server has not been started.", code="not_started")
                route, request = await self._admit(scope, exchange, services, held)
            except ClientDisconnect:
                exchange.log()
                return
            except Exception as error:  # noqa: BLE001
                await exchange.refuse(error)
                return
            self._exchanges.add(exchange)
            try:
                await exchange.race(partial(route.endpoint, request, services))
            finally:
                self._exchanges.discard(exchange)
                if not self._exchanges:
                    self._idle.set()

    async def _admit(
        self, scope: Scope, exchange: Exchange, services: Services, held: AsyncExitStack
    ) -> tuple[Route, Request]:
        """Route, key, limits and body, in this order: nothing is read for a request that is refused anyway. `held`
        keeps the request's place."""
        check_head(scope, exchange.headers)
        path = route_path(scope)
        if services.config.server.cors is not None and is_preflight(scope["method"], exchange.headers):
            # Browsers send no key with it, and want to hear of what is wrong by the request itself.
            request = Request(
                id=exchange.id,
                method=scope["method"],
                path=path,
                headers=exchange.headers,
                record=exchange.record,
            )
            return PREFLIGHT, request
        route, param = match(path, scope["method"])
        exchange.record.route = _template(path, param)
        if services.draining and not route.open:
            raise Unavailable("The server is shutting down.", code="draining")
        headers = exchange.headers
        key: KeyConfig | None = None
        if not route.open:
            authorization = headers.get(b"authorization", b"").decode("latin-1")
            key = services.keys.check(authorization)
        if route.body is not None:
            _check_content_type(headers.get(b"content-type", b""))
        if route.body is not None or route.form is not None:
            _check_coding(headers.get(b"content-encoding", b""))
        boundary = boundary_of(headers.get(b"content-type", b"").decode("latin-1")) if route.form is not None else b""
        if route.work:
            exchange.ticket = held.enter_context(services.limiter.admit(key))
        limits = services.config.limits
        sent = Body(
            exchange.receive,
            headers,
            limit=_body_limit(route, limits),
            chunk_timeout=limits.body_timeout,
            total_timeout=limits.body_total_timeout,
        )
        body, form = b"", None
        if route.form is None:
            body = await sent.read()
        else:
            async with aclosing(sent.chunks()) as chunks:
                form = await read_form(chunks, boundary, files=FILES)
            held.push_async_callback(form.aclose)
        exchange.record.arrive()
        return route, Request(
            id=exchange.id,
            method=scope["method"],
            path=path,
            root=scope.get("root_path", ""),
            headers=headers,
            body=body,
            form=form,
            key=key,
            param=param,
            ticket=exchange.ticket,
            record=exchange.record,
        )


def _template(path: str, param: str) -> str:
    """A path as metrics and traces know it: one for all that a route has."""
    inner = path.removeprefix("/v1") if path.startswith("/v1/") else path
    return f"{inner.removesuffix(param)}{{id}}" if param else inner


def _body_limit(route: Route, limits: LimitsConfig) -> int:
    if route.form is not None:
        return limits.upload_bytes
    return limits.body_bytes if route.body is not None else SMALL_BODY


def _check_content_type(value: bytes) -> None:
    kind = value.split(b";", 1)[0].strip().lower()
    if kind and kind != b"application/json" and not kind.endswith(b"+json"):
        shown = shorten(kind.decode("latin-1"))
        raise UnsupportedMediaType(f"The body is sent as {shown}; this route reads application/json.")


def _check_coding(value: bytes) -> None:
    coding = value.strip().lower()
    if coding not in (b"", b"identity"):
        # One that is unpacked has no size that a limit could be held against before.
        raise UnsupportedMediaType(
            f"The body is sent as {shorten(coding.decode('latin-1'))}; it is read as it is only."
        )


def create_app(config: Config | str | Path | None = None) -> Ark:
    """An ASGI application that serves `config`: a Config, the path of an ``ark.toml``, or None for the usual places."""
    return Ark(config)


app = create_app()
