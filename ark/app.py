"""The ASGI application: keys, bodies and lifespan."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from ark.api.error_body import encode_error
from ark.api.request import Request, spend_nothing
from ark.api.routes import EXPOSED, FILES, PREFLIGHT, Route, match
from ark.concurrency import working_for
from ark.config import Config, ConfigError, KeyConfig
from ark.config_file import load_config
from ark.errors import APIError, NotFound, Unavailable, shorten
from ark.http.cors import is_preflight, response_headers
from ark.http.exchange import CLOSE, FAREWELL, SMALL_BODY, Client, Exchange, Respond
from ark.http.forms import Form, read_form
from ark.http.request import (
    Body,
    Receive,
    Scope,
    Send,
    check_content,
    check_head,
    check_host,
    check_origin,
    is_http1,
    origin_form,
    read_headers,
    request_id,
    route_path,
)
from ark.http.websocket import EventSocket, deny, request_scope
from ark.ops import logs
from ark.ops.keys import sent_key
from ark.ops.limits import Account, Place
from ark.ops.requests import RequestRecord
from ark.ops.tracing import open_tracer
from ark.process import memory
from ark.services import Services
from ark.sessions.response_node import Link
from ark.sessions.storage import StorageError

log = logging.getLogger("ark.app")

PROBES = frozenset({"/health", "/ready"})
"""Asked every few seconds, so that their lines would bury the others."""


class Ark:
    """The ASGI callable.

    `config` is a Config, the path of an ``ark.toml``, or None: then it is read at startup from the usual places. The
    models open in the background once the lifespan has started.
    """

    def __init__(self, config: Config | str | Path | None = None) -> None:
        self._config = config
        self._services: Services | None = None
        self._exchanges: set[Exchange] = set()
        self._sockets: set[anyio.CancelScope] = set()
        """Of the WebSockets that are open."""
        self._idle = anyio.Event()
        self.local = False
        """Set by whoever runs the server where it is reached from this machine alone: then it may be open unwarned."""
        self.hosts: Collection[str] | None = None
        """Set by whoever runs the server: the hosts that it listens on."""
        self.after_opening: Callable[[], object] | None = None
        """Set by whoever runs the server: called behind each model that was opened, or could not be."""

    @property
    def services(self) -> Services | None:
        """The running server's parts, None while it does not run."""
        return self._services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(origin_form(scope), receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
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
        memory.tune_allocator()
        services = Services(config)
        await services.open()
        services.tracer = await anyio.to_thread.run_sync(open_tracer, os.environ)
        if services.keys.open and not self.local:
            log.warning("no API keys are configured: everyone who can reach the server may use it")
        self._services = services
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                services.tasks = tasks
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
        for socket in self._sockets:
            socket.cancel()
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

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """OpenAI's WebSocket of /responses: each message is a request to the route of that name."""
        await receive()
        link = Link()
        requests = request_scope(scope, link=link)
        call = Call(requests, self._services, self.hosts)
        try:
            if route_path(scope).removeprefix("/v1") != "/responses":
                raise NotFound(f"There is no WebSocket at {shorten(scope['path'])}.", code="unknown_url")
            call.check()
        except APIError as error:
            await deny(scope, send, error.status, encode_error(error))
            return
        try:
            with anyio.CancelScope() as closing:
                self._sockets.add(closing)
                await EventSocket(requests, receive, send, self._http).run()
            if closing.cancelled_caught:
                await send({"type": "websocket.close", "code": 1001})
        finally:
            self._sockets.discard(closing)
            if link.latest is not None and self._services is not None:
                self._services.responses.unpin(link.latest)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        services = self._services
        call = Call(scope, services, self.hosts)
        exchange = Exchange(
            scope,
            call.headers,
            receive,
            send,
            public_error=call.public_error,
            encode_error=call.encode_error,
            extra_headers=call.extra_headers,
            keep_alive=math.inf if services is None else services.config.server.keep_alive,
            write_timeout=math.inf if services is None else services.config.limits.write_timeout,
        )

        async def admit() -> Respond:
            respond = await call.admit(exchange)
            self._exchanges.add(exchange)
            return respond

        try:
            await exchange.run(admit)
        finally:
            # A server that stops while it reads a request has not answered it.
            if exchange.status or exchange.disconnected:
                call.finish(exchange)
            self._exchanges.discard(exchange)
            if not self._exchanges:
                self._idle.set()
            if call.place is not None:
                call.place.leave()
            if call.form is not None:
                await call.form.aclose()


class Call:
    """ARK's side of one request: its admission, what every response says, and what is recorded."""

    def __init__(self, scope: Scope, services: Services | None, hosts: Collection[str] | None = None) -> None:
        self.headers = read_headers(scope)
        self._hosts = hosts
        self._scope = scope
        self._services = services
        self._record = RequestRecord(
            request_id(self.headers), scope["method"], scope.get("scheme", "http"), self.headers
        )
        self._account: Account | None = None
        """There once the request may send its body."""
        self.place: Place | None = None
        """Among the running requests; taken once the body is there, and left by whoever has the call."""
        self.form: Form | None = None
        """Closed by whoever has the call."""
        self._error: str | None = None
        self._encode_error: Callable[[APIError], bytes] = encode_error

    def check(self) -> tuple[Services, Route, tuple[str, str], KeyConfig | None]:
        """The route of a request, what its path has in place of braces, and its key. Raises APIError."""
        services, headers = self._services, self.headers
        if services is None:
            raise Unavailable("The server has not been started.", code="not_started")
        check_head(self._scope, headers)
        self._check_page(services)
        path, method = route_path(self._scope), self._scope["method"]
        if services.config.server.cors is not None and is_preflight(method, headers):
            # Browsers send no key with it, and want to hear of what is wrong by the request itself.
            route, params = PREFLIGHT, ("", "")
        else:
            route, self._record.route, params = match(path, method)
            self._encode_error = route.encode_error
        if services.draining and not route.open:
            raise Unavailable("The server is shutting down.", code="draining")
        key = None
        if not (route.open or services.keys.open):
            key = services.keys.check(sent_key(headers))
        return services, route, params, key

    async def admit(self, exchange: Exchange) -> Respond:
        """Check route, key and limits, then read the body: nothing is read for a request that is refused anyway."""
        services, route, params, key = self.check()
        headers = self.headers
        boundary = check_content(headers, route.reads)
        limits = services.config.limits
        body = Body(
            exchange.receive,
            headers,
            expire_at=exchange.expire_at,
            limit={"json": limits.body_bytes, "form": limits.upload_bytes, None: SMALL_BODY}[route.reads],
            chunk_timeout=limits.body_timeout,
            total_timeout=limits.body_total_timeout,
        )
        address, _ = self._scope.get("client") or ("", None)
        working_for.set(address if key is None else key.name)
        if route.reads is None:
            content = await self._read(body, boundary)
        else:
            with services.limiter.admit_body(key, address) as self._account:
                content = await self._read(body, boundary)
        if route.work:
            self.place = services.limiter.admit(key)
        request = Request(
            id=self._record.id,
            method=self._scope["method"],
            path=route_path(self._scope),
            root=self._scope.get("root_path", ""),
            query=self._scope.get("query_string", b"").decode("latin-1"),
            headers=headers,
            body=content,
            form=self.form,
            record=self._record,
            key=key,
            owner="" if key is None else key.name,
            address=address,
            param=params[0],
            item=params[1],
            link=self._scope.get("link"),
            spend=spend_nothing if self._account is None else self._account.spend,
        )
        self._record.arrive()
        return partial(route.endpoint, request, services)

    async def _read(self, body: Body, boundary: bytes) -> bytes:
        if boundary:
            async with aclosing(body.chunks()) as chunks:
                self.form = await read_form(chunks, boundary, files=FILES)
        return await body.read()

    def _check_page(self, services: Services) -> None:
        """Refuse what a web page asks through the browser of somebody who may. Keys keep pages out by themselves, and
        below a path of another application that one decides."""
        server, scope = services.config.server, self._scope
        mounted = bool(scope.get("root_path")) and self._hosts is None
        exposed = services.keys.open and not mounted
        if exposed or server.allowed_hosts:
            address, _ = scope.get("server") or ("", None)
            check_host(self.headers, (*server.allowed_hosts, *(self._hosts or ()), address))
        if exposed and b"origin" in self.headers and not is_preflight(scope["method"], self.headers):
            check_origin(self.headers, server.cors)

    def extra_headers(self) -> list[tuple[str, str]]:
        headers = [("x-request-id", self._record.id)]
        if self._account is not None:
            headers += self._account.headers()
        if self._services is not None:
            if self._services.config.server.cors is not None:
                headers += response_headers(self._services.config.server.cors, self.headers, EXPOSED)
            if self._services.draining and is_http1(self._scope):
                headers.append(CLOSE)
        return headers

    def encode_error(self, error: APIError) -> bytes:
        """An error in the shape of the route's API."""
        return self._encode_error(error)

    def public_error(self, error: BaseException) -> APIError:
        """The error itself if it is meant for clients. Any other is logged and hidden."""
        if not isinstance(error, APIError):
            log.error("unexpected error", exc_info=error, extra={"fields": {"request_id": self._record.id}})
            error = APIError(f"The server had an unexpected error. Its log has more under {self._record.id}.")
        self._error = error.code or error.type
        self._record.fail(error)
        return error

    def finish(self, exchange: Exchange) -> None:
        """The exchange is over: into the log, the metrics and the traces."""
        record = self._record
        error = "write_timeout" if exchange.client is Client.STALLED else self._error
        record.end(status=exchange.status, disconnected=exchange.disconnected, error=error)
        if self._services is not None:
            self._services.metrics.requests.add(record)
            if self._services.tracer is not None:
                self._services.tracer.add(record)
        fields: dict[str, object] = {
            "request_id": record.id,
            "request": f"{self._scope['method']} {self._scope['path']}",
            "status": exchange.status or None,
            "seconds": round(record.ended - record.begun, 4),
        }
        if record.job is not None:
            fields |= {"model": record.job.model, **record.job.logged}
        if error is not None:
            fields["error"] = error
        if record.trace_id is not None:
            fields["trace_id"] = record.trace_id
        level = logging.DEBUG if record.route in PROBES else logging.INFO
        log.log(level, "client disconnected" if exchange.disconnected else "request", extra={"fields": fields})


def create_app(config: Config | str | Path | None = None) -> Ark:
    """An ASGI application that serves `config`: a Config, the path of an ``ark.toml``, or None for the usual places."""
    return Ark(config)


app = create_app()
