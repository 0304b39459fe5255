"""Drive an ASGI application as a server does, with hand-written `receive` and `send`, and check the protocol's rules.

Only `running`, which starts an ARK, knows ARK.
"""

from __future__ import annotations

import json as jsonlib
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import anyio
import anyio.abc
import msgspec
import pytest
from sse import Event, read_events

from ark.app import Ark, create_app
from ark.config import Config

ECHO: dict[str, Any] = {"name": "echo", "backend": "echo_backend:EchoBackend"}
Headers = Sequence[tuple[str, str]]
JSON_HEADER = ("content-type", "application/json")


@dataclass
class Response:
    """The reply, as far as it has arrived."""

    status: int = 0
    raw_headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.raw_headers}

    def json(self) -> Any:
        return jsonlib.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object, which must have exactly OpenAI's shape."""
        reply = self.json()
        assert list(reply) == ["error"], reply
        assert set(reply["error"]) == {"message", "type", "param", "code"}, reply
        assert reply["error"]["message"]
        assert self.headers["content-type"] == "application/json"
        return reply["error"]

    @property
    def events(self) -> list[Event]:
        return read_events(self.text)

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """A stream's JSON events, without ``[DONE]``."""
        return [jsonlib.loads(event.data) for event in self.events if event.data != "[DONE]"]


class Exchange:
    """One request in flight."""

    def __init__(self, scope: dict[str, Any], pieces: Iterable[bytes], *, ends: bool, send_fails: bool) -> None:
        self.scope = scope
        self.response = Response()
        self.received = 0
        """Messages that the application took."""
        self.done = anyio.Event()
        """The application has returned."""
        self.failure: Exception | None = None
        self.deaf = False
        """`receive` does not report the disconnect, as in a server that notices it only when it writes."""
        self._gone = anyio.Event()
        self._told = False
        self._send_fails = send_fails
        self._changed = anyio.Event()
        bodies = list(pieces) or [b""]
        self._messages = [
            {"type": "http.request", "body": body, "more_body": not ends or number < len(bodies)}
            for number, body in enumerate(bodies, 1)
        ]

    async def receive(self) -> dict[str, Any]:
        await anyio.lowlevel.checkpoint()
        if self._messages and not self._gone.is_set():
            self.received += 1
            return self._messages.pop(0)
        await (anyio.sleep_forever() if self.deaf else self._gone.wait())
        self._told = True
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        told, response = self._told, self.response
        await anyio.lowlevel.checkpoint()
        if self._gone.is_set() and not response.complete:
            if self._send_fails:
                raise OSError("the client has disconnected")
            assert not told, f"sent to a client that has disconnected: {message}"
            # It was on the way before the application knew.
            return
        if message["type"] == "http.response.start":
            assert not response.status, f"two starts: {message}"
            for name, value in message["headers"]:
                assert name == name.lower(), f"a header's name is not in lower case: {name!r}"
                assert not set(name + value) & set(b"\r\n\0"), f"a header is broken: {name!r}: {value!r}"
            response.status, response.raw_headers = message["status"], list(message["headers"])
        else:
            assert message["type"] == "http.response.body", message
            assert response.status, f"a body before the start: {message}"
            assert not response.complete, f"a body behind the end: {message}"
            if message["body"]:
                response.pieces.append(message["body"])
            if not message["more_body"]:
                response.complete = True
                # A server sends a disconnect after the complete reply.
                self._gone.set()
        self._changed.set()
        self._changed = anyio.Event()

    def disconnect(self) -> None:
        self._gone.set()

    async def until(self, pieces: int) -> None:
        """Wait until this many pieces of the reply's body have arrived."""
        while len(self.response.pieces) < pieces:
            await self._changed.wait()


class Client:
    """Sends requests to one application."""

    def __init__(self, app: Any, *, root_path: str = "", http_version: str = "1.1") -> None:
        self.app = app
        self._root_path = root_path
        self._http_version = http_version

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        json: Any = None,
        pieces: Iterable[bytes] = (),
        headers: Headers = (),
        query: str = "",
        ends: bool = True,
        send_fails: bool = False,
    ) -> AsyncIterator[Exchange]:
        """A request in flight; `path` is percent-encoded. When the block ends, the reply must be complete or the client
        disconnected.

        `ends=False`: the body never ends. `send_fails`: `send` raises OSError after a disconnect, as ASGI specifies.
        """
        given = list(headers)
        if json is not None:
            body = jsonlib.dumps(json).encode()
        if method == "POST" and not any(name == "content-type" for name, _ in given):
            given.append(JSON_HEADER)
        pieces = list(pieces) or [body]
        scope = self._scope(method, path, given, query)
        untouched = jsonlib.dumps(scope, default=repr)
        exchange = Exchange(scope, pieces, ends=ends, send_fails=send_fails)

        async def call() -> None:
            try:
                await self.app(scope, exchange.receive, exchange.send)
            except Exception as error:  # noqa: BLE001
                exchange.failure = error
            exchange.done.set()

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(call)
                yield exchange
                await exchange.done.wait()
        assert jsonlib.dumps(scope, default=repr) == untouched, "the scope was changed"
        if exchange.failure is not None:
            raise exchange.failure

    async def request(self, method: str, path: str, **given: Any) -> Response:
        async with self.open(method, path, **given) as exchange:
            pass
        response = exchange.response
        assert response.complete, "the application returned without a whole reply"
        if method == "HEAD":
            assert not response.body
        elif "content-length" in response.headers:
            assert int(response.headers["content-length"]) == len(response.body)
        return response

    async def get(self, path: str, **given: Any) -> Response:
        return await self.request("GET", path, **given)

    async def chat(self, content: str = "hello", **fields: Any) -> Response:
        """A chat completion with one user message; `headers` go to the request, the rest into the body."""
        return await self.request("POST", "/v1/chat/completions", **chat_request(content, **fields))

    def _scope(self, method: str, path: str, headers: list[tuple[str, str]], query: str) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": self._http_version,
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": self._root_path,
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
            "client": ("127.0.0.1", 50000),
            "server": ("127.0.0.1", 8000),
        }


def chat_request(content: str = "hello", *, headers: Headers = (), **fields: Any) -> dict[str, Any]:
    """The arguments of a chat request; a field given as None is left out."""
    body = {"model": "echo", "messages": [{"role": "user", "content": content}], **fields}
    return {"json": {name: value for name, value in body.items() if value is not None}, "headers": headers}


def make_config(**tables: Any) -> Config:
    """A configuration, as from `ark.toml`; without `models` it serves the echo backend."""
    return msgspec.convert({"models": [ECHO], **tables}, Config)


@asynccontextmanager
async def running(*, settle: bool = True, **tables: Any) -> AsyncIterator[Client]:
    """A client of a running ARK; with `settle`, all its models have opened or failed."""
    app = create_app(make_config(**tables))
    async with app.lifespan():
        if settle:
            await settled(app)
        yield Client(app)


async def settled(app: Ark) -> None:
    services = app.services
    assert services is not None
    await until(lambda: all(served.state != "loading" for served in services.registry.models))


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, for at most a minute."""
    with anyio.fail_after(60):
        while True:
            if condition():
                return
            await anyio.sleep(0.001)


def backend_of(client: Client, model: int = 0) -> Any:
    """The opened backend of a running ARK."""
    return client.app.services.registry.models[model].backend


def logged(caplog: pytest.LogCaptureFixture, logger: str) -> list[dict[str, Any]]:
    """What a logger has written so far: messages with their fields."""
    return [
        {"message": record.message, **getattr(record, "fields", {})}
        for record in caplog.records
        if record.name == logger
    ]


def is_request_id(value: str) -> bool:
    return re.fullmatch(r"req_[0-9a-f]{32}", value) is not None
