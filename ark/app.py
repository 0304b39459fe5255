"""The ASGI application: routes, keys, bodies, the error funnel, the race with a disconnect, and lifespan."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import anyio
import msgspec

from ark import log as logs
from ark.asgi import (
    KEEP_ALIVE,
    ClientGone,
    Receive,
    Reply,
    Request,
    Scope,
    Send,
    Stream,
    read_body,
    read_headers,
    route_path,
    send_reply,
    send_stream_start,
    wait_for_disconnect,
)
from ark.config import Config, ConfigError, KeyConfig, load_config
from ark.endpoints import chat, models, operations
from ark.errors import APIError, MethodNotAllowed, NotFound, Unavailable, UnsupportedMediaType
from ark.schemas.errors import encode_error
from ark.services import Services

log = logging.getLogger("ark.app")

Endpoint = Callable[[Request, Services], Awaitable[Reply | Stream]]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    endpoint: Endpoint
    open: bool = False
    """Needs no key."""
    json: bool = False
    """Reads a JSON body."""


ROUTES: Mapping[str, Mapping[str, Route]] = {
    "/chat/completions": {"POST": Route(endpoint=chat.create, json=True)},
    "/models": {"GET": Route(endpoint=models.list_models)},
    "/models/": {"GET": Route(endpoint=models.get_model)},
    "/health": {"GET": Route(endpoint=operations.health, open=True)},
    "/ready": {"GET": Route(endpoint=operations.ready, open=True)},
}
"""Path to method to route, below an optional ``/v1``. A path that ends with a slash takes what follows it."""

_PREFIXES = tuple(path for path in ROUTES if path.endswith("/"))
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


def match(path: str, method: str) -> tuple[Route, str]:
    """The route of a path, and what the path has after the route's prefix. Raises NotFound or MethodNotAllowed."""
    inner = path.removeprefix("/v1") if path.startswith("/v1/") else path
    methods, param = ROUTES.get(inner), ""
    if methods is None:
        for prefix in _PREFIXES:
            if inner.startswith(prefix):
                methods, param = ROUTES[prefix], inner[len(prefix) :]
    if methods is None:
        raise NotFound(f"There is nothing at {path}.", code="unknown_url")
    route = methods.get("GET" if method == "HEAD" else method)
    if route is None:
        raise MethodNotAllowed(", ".join([*methods, "HEAD"] if "GET" in methods else methods))
    return route, param


class Ark:
    """The ASGI callable.

    `config` is a Config, the path of an ``ark.toml``, or None: then it is read at startup from the usual places. The
    models open in the background once the lifespan has started.
    """

    def __init__(self, config: Config | str | Path | None = None) -> None:
        self._config = config
        self._services: Services | None = None

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

        Raises ConfigError when the configuration cannot be used.
        """
        if self._services is not None:
            raise RuntimeError("this ARK is running already")
        config = self._config if isinstance(self._config, Config) else load_config(self._config)
        logs.configure(config.server.log_level)
        services = Services(config)
        if services.keys.open:
            log.warning("no API keys are configured: everyone who can reach the server may use it")
        self._services = services
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(services.registry.open)
                try:
                    yield
                finally:
                    services.draining = True
                    tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await services.registry.close()
            self._services = None

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self.lifespan())
            except ConfigError as error:
                # Servers pass over an exception here and serve all the same, so it is said in words.
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(scope, receive, send)
        try:
            services = self._running()
            route, request = await self._admit(scope, exchange, services)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001
            await exchange.fail(error)
            return
        await exchange.race(route.endpoint, request, services)

    def _running(self) -> Services:
        if self._services is None:
            raise Unavailable("The server has not been started.", code="not_started")
        if self._services.draining:
            raise Unavailable("The server is shutting down.", code="draining")
        return self._services

    async def _admit(self, scope: Scope, exchange: _Exchange, services: Services) -> tuple[Route, Request]:
        """Route, key and body, in this order: nothing is read for a request that is refused anyway."""
        path = route_path(scope)
        route, param = match(path, scope["method"])
        headers = exchange.headers
        key: KeyConfig | None = None
        if not route.open:
            authorization = headers.get(b"authorization", b"").decode("latin-1")
            key = services.keys.check(authorization)
        if route.json:
            _check_content_type(headers.get(b"content-type", b""))
        limits = services.config.limits
        body = await read_body(
            exchange.receive,
            headers,
            limit=limits.body_bytes,
            piece_timeout=limits.body_timeout,
            total_timeout=limits.body_total_timeout,
        )
        exchange.body_read = True
        return route, Request(
            id=exchange.id,
            method=scope["method"],
            path=path,
            headers=headers,
            body=body,
            key=key,
            param=param,
        )


def _check_content_type(value: bytes) -> None:
    kind = value.split(b";", 1)[0].strip().lower()
    if kind and kind != b"application/json" and not kind.endswith(b"+json"):
        shown = kind.decode("latin-1")
        raise UnsupportedMediaType(f"The body is sent as {shown}; this route reads application/json.")


class _Exchange:
    """One request and its reply: the only place that sends, and the only funnel for errors."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.receive = receive
        self.headers = read_headers(scope)
        self.body_read = False
        sent = self.headers.get(b"x-request-id", b"")
        self.id = sent.decode() if _REQUEST_ID.fullmatch(sent) else f"req_{uuid.uuid4().hex}"
        self._send = send
        self._head = scope["method"] == "HEAD"
        self._what = f"{scope['method']} {scope['path']}"
        self._begun = anyio.current_time()
        self._started = False
        self._finished = False
        self._status = 0

    async def race(self, endpoint: Endpoint, request: Request, services: Services) -> None:
        """Run the endpoint and send its reply, unless the client leaves first."""
        gone = False

        async def watch() -> None:
            nonlocal gone
            await wait_for_disconnect(self.receive)
            # The same message also follows a reply that was sent whole.
            if not self._finished:
                gone = True
                tasks.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch)
                await self._run(endpoint, request, services)
                tasks.cancel_scope.cancel()
        finally:
            self._log("client gone" if gone else "request")

    async def _run(self, endpoint: Endpoint, request: Request, services: Services) -> None:
        error_event: Callable[[APIError], bytes] | None = None
        try:
            reply = await endpoint(request, services)
            if isinstance(reply, Stream):
                error_event = reply.error_event
                await self._stream(reply, services.config.server.keep_alive)
            else:
                await self._reply(reply)
        except Exception as error:  # noqa: BLE001
            await self.fail(error, error_event)

    async def fail(self, error: Exception, error_event: Callable[[APIError], bytes] | None = None) -> None:
        """The funnel: any exception becomes an error reply, or the last event of a stream that has begun."""
        if not isinstance(error, APIError):
            log.error("unexpected error", exc_info=error, extra={"fields": {"request_id": self.id}})
            error = APIError(f"The server had an unexpected error. Its log has more under {self.id}.")
        if not self._started:
            if not self.body_read:
                await self._discard_body()
            headers = (
                [("connection", "close"), *error.headers.items()] if not self.body_read else [*error.headers.items()]
            )
            await self._reply(Reply(body=encode_error(error), status=error.status, headers=headers))
        elif error_event is not None:
            self._finished = True
            await self._send({"type": "http.response.body", "body": error_event(error), "more_body": False})
        else:
            raise error

    async def _reply(self, reply: Reply) -> None:
        self._started, self._finished, self._status = True, True, reply.status
        headers = [*reply.headers, ("x-request-id", self.id)]
        await send_reply(self._send, msgspec.structs.replace(reply, headers=headers), head=self._head)

    async def _stream(self, stream: Stream, interval: float) -> None:
        """Send events as they come, and a comment after each `interval` seconds of silence."""
        lock = anyio.Lock()
        last = anyio.current_time()

        async def write(piece: bytes, more: bool = True) -> None:
            nonlocal last
            async with lock:
                if not self._started:
                    self._started, self._status = True, 200
                    await send_stream_start(self._send, [*stream.headers, ("x-request-id", self.id)])
                await self._send({"type": "http.response.body", "body": piece, "more_body": more})
                last = anyio.current_time()

        async def keep_alive() -> None:
            while True:
                silent = anyio.current_time() - last
                if silent >= interval:
                    await write(KEEP_ALIVE)
                else:
                    await anyio.sleep(interval - silent)

        failure: Exception | None = None
        async with aclosing(stream.events) as events, anyio.create_task_group() as tasks:
            tasks.start_soon(keep_alive)
            # Caught here: a task group would wrap it, and the comment must stop before the error is sent.
            try:
                async for event in events:
                    await write(event)
            except Exception as error:  # noqa: BLE001
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        self._finished = True
        await write(b"", more=False)

    async def _discard_body(self) -> None:
        """Read a little of what the client still sends: a connection that is closed under unread bytes is reset, and
        the client loses the error."""
        read = 0
        with anyio.move_on_after(0.5):
            while read < 1 << 20:
                message = await self.receive()
                read += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return

    def _log(self, message: str) -> None:
        fields = {
            "request_id": self.id,
            "request": self._what,
            "status": self._status or None,
            "seconds": round(anyio.current_time() - self._begun, 4),
        }
        log.info(message, extra={"fields": fields})


def create_app(config: Config | str | Path | None = None) -> Ark:
    """An ASGI application that serves `config`: a Config, the path of an ``ark.toml``, or None for the usual places."""
    return Ark(config)


app = create_app()
