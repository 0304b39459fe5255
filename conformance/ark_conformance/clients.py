"""OpenAI's clients as a replay uses them: strict validation, no retries, a cookie jar each, every byte recorded.

`Caller` wraps the synchronous client and `AsyncCaller` the asyncio one, behind one interface.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import time
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import httpx2
import msgspec
import openai

from ark_conformance.calls import SOCKET
from ark_conformance.methods import find_method
from ark_conformance.wire import AsyncRecorder, Exchange, Recorder, read_events

_ENDS = {"error", *(f"response.{how}" for how in ("completed", "incomplete", "failed", "cancelled"))}
"""Events of a WebSocket behind which none of the same response comes."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The URL of a server and the keys to use."""

    base_url: str
    """Including ``/v1``, as OpenAI's client takes it."""
    api_key: str | None = None
    other_key: str | None = None
    """A second key, to check what one key must not see of another's."""
    limited_key: str | None = None
    """A key whose limits the calls may exhaust."""
    timeout: float = 60.0
    """Seconds of silence after which a call fails. A reply that never pauses gets ten times as long."""
    proxy: str | None = None

    @property
    def longest(self) -> float:
        """The most seconds that a reply may take."""
        return 10 * self.timeout

    @property
    def root(self) -> str:
        """The URL without the ``/v1``."""
        return self.base_url.rstrip("/").removesuffix("/v1")

    def key(self, whose: str) -> str | None:
        """The API key for a step's ``key``."""
        keys = {
            "own": self.api_key or "none",
            "other": self.other_key,
            "limited": self.limited_key,
            "wrong": "sk-this-key-is-not-known",
        }
        return keys.get(whose)


@dataclass(kw_only=True)
class Request:
    """One call, with everything filled in."""

    call: str
    arguments: dict[str, Any]
    key: str
    client: str
    raw: bool
    stream: bool
    leave_after: int | None
    hold: str | None
    strict: bool = True


@dataclass
class Outcome:
    """The result of a call."""

    exchange: Exchange | None = None
    parsed: Any = None
    error: Exception | None = None
    seconds: float = 0.0


class AnyCaller(Protocol):
    def call(self, request: Request) -> Outcome: ...

    def leave(self, name: str) -> None:
        """Close the streams held under a name. Raises KeyError."""

    def close(self) -> None: ...


class Caller:
    """The synchronous client."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._exchanges: list[Exchange] = []
        self._clients: dict[tuple[str, str], httpx2.Client] = {}
        self._held: dict[str, list[Any]] = {}

    def call(self, request: Request) -> Outcome:
        return _finished(self._exchanges, lambda: self._call(request))

    def leave(self, name: str) -> None:
        for stream in self._held.pop(name):
            stream.close()

    def close(self) -> None:
        for name in list(self._held):
            self.leave(name)
        for http in self._clients.values():
            http.close()

    def _call(self, request: Request) -> Any:
        http = self._http(request)
        if request.call == "http":
            with http.stream(**http_request(self._server, request)) as response:
                for _ in response.iter_raw():
                    if _has_left(request, self._exchanges):
                        break
            return None
        client = openai.OpenAI(http_client=http, **_options(self._server, request))
        if request.call == SOCKET:
            return self._converse(client, request.arguments["messages"])
        method = find_method(request.call)
        arguments = method.arrange(request.arguments)
        result = method.bind(client, raw=request.raw)(**arguments | ({"stream": True} if request.stream else {}))
        if request.raw:
            result = result.parse()
        if not request.stream:
            return plain(result)
        for number, _ in enumerate(result, 1):
            if number == request.leave_after:
                break
        if request.hold is None:
            result.close()
        else:
            self._held.setdefault(request.hold, []).append(result)
        return None

    def _converse(self, client: openai.OpenAI, messages: list[Any]) -> None:
        """Messages over a WebSocket, as `SOCKET` describes them."""
        exchange = Exchange(method="GET", url=f"{self._server.base_url}/responses", request_headers=[])
        self._exchanges.append(exchange)
        # The client calls its library of WebSockets in an older way.
        with (
            warnings.catch_warnings(action="ignore", category=DeprecationWarning),
            client.responses.connect(max_retries=0) as connection,
        ):
            exchange.status, exchange.headers = 101, [("content-type", "text/event-stream")]
            for message in messages:
                if isinstance(message, dict):
                    sent = json.dumps(message)
                    exchange.request_pieces.append(f"{sent}\n".encode())
                    connection.send_raw(sent)
                    continue
                for _ in range(message) if isinstance(message, int) else itertools.count():
                    event = connection.recv_bytes()
                    exchange.pieces.append(b"data: " + event + b"\n\n")
                    if message == "end" and json.loads(event)["type"] in _ENDS:
                        break
        exchange.complete = True

    def _http(self, request: Request) -> httpx2.Client:
        """The HTTP client that has the request's cookie jar."""
        place = (request.client, request.key)
        if place not in self._clients:
            inner = httpx2.HTTPTransport(verify=tls(), proxy=self._server.proxy)
            transport = Recorder(inner, self._exchanges.append, self._server.longest)
            # A proxy from the environment would bypass the transport.
            self._clients[place] = openai.DefaultHttpxClient(
                transport=transport, trust_env=False, timeout=self._server.timeout
            )
        return self._clients[place]


class AsyncCaller:
    """The asyncio client, on an event loop of its own."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._exchanges: list[Exchange] = []
        self._clients: dict[tuple[str, str], httpx2.AsyncClient] = {}
        self._held: dict[str, list[Any]] = {}
        self._runner = asyncio.Runner()

    def call(self, request: Request) -> Outcome:
        return _finished(self._exchanges, lambda: self._runner.run(self._call(request)))

    def leave(self, name: str) -> None:
        for stream in self._held.pop(name):
            self._runner.run(stream.close())

    def close(self) -> None:
        try:
            for name in list(self._held):
                self.leave(name)
            for http in self._clients.values():
                self._runner.run(http.aclose())
        finally:
            self._runner.close()

    async def _call(self, request: Request) -> Any:
        http = self._http(request)
        if request.call == "http":
            arguments = http_request(self._server, request)
            if isinstance(arguments.get("content"), Iterator):
                arguments["content"] = _as_async(arguments["content"])
            async with http.stream(**arguments) as response:
                async for _ in response.aiter_raw():
                    if _has_left(request, self._exchanges):
                        break
            return None
        client = openai.AsyncOpenAI(http_client=http, **_options(self._server, request))
        method = find_method(request.call)
        arguments = method.arrange(request.arguments)
        result = method.bind(client, raw=request.raw)(**arguments | ({"stream": True} if request.stream else {}))
        # A list of models is a page, which is awaitable too.
        result = await result
        if request.raw:
            result = result.parse()
        if not request.stream:
            return plain(result)
        number = 0
        async for _ in result:
            number += 1
            if number == request.leave_after:
                break
        if request.hold is None:
            await result.close()
        else:
            self._held.setdefault(request.hold, []).append(result)
        return None

    def _http(self, request: Request) -> httpx2.AsyncClient:
        place = (request.client, request.key)
        if place not in self._clients:
            inner = httpx2.AsyncHTTPTransport(verify=tls(), proxy=self._server.proxy)
            transport = AsyncRecorder(inner, self._exchanges.append, self._server.longest)
            self._clients[place] = openai.DefaultAsyncHttpxClient(
                transport=transport, trust_env=False, timeout=self._server.timeout
            )
        return self._clients[place]


@lru_cache(maxsize=1)
def tls() -> ssl.SSLContext:
    """One context for all clients: reading the certificates takes longer than most calls."""
    return httpx2.create_ssl_context()


def http_request(server: Server, request: Request) -> dict[str, Any]:
    """Convert the arguments of ``http`` to those of the HTTP client.

    ``method`` (POST if there is a body, else GET), ``path`` below the base URL or a whole ``url``, ``json``, ``body``
    (text), ``pieces`` (texts that are sent one by one, ``pause`` seconds apart), ``headers``, ``timeout``.
    """
    asked = dict(request.arguments)
    url = asked.pop("url", None) or server.base_url.rstrip("/") + asked.pop("path")
    sent: dict[str, Any] = {"url": url, "headers": _http_headers(server, request.key) | asked.pop("headers", {})}
    if "json" in asked:
        sent["json"] = asked.pop("json")
    elif "body" in asked:
        sent["content"] = asked.pop("body").encode()
    elif "pieces" in asked:
        sent["content"] = _slowly(asked.pop("pieces"), asked.pop("pause", 0.0))
    if "content" in sent:
        sent["headers"] = {"content-type": "application/json"} | sent["headers"]
    sent["method"] = asked.pop("method", "POST" if {"json", "content"} & set(sent) else "GET")
    if "timeout" in asked:
        sent["timeout"] = asked.pop("timeout")
    if asked:
        raise TypeError(f"a call of http knows no {', '.join(asked)}")
    return sent


def plain(result: Any) -> Any:
    """The client's parsed reply as JSON values."""
    # A step that is not strict may have a reply that is not as the client's types say.
    return result.model_dump(mode="json", warnings=False) if hasattr(result, "model_dump") else result


def _http_headers(server: Server, whose: str) -> dict[str, str]:
    key = server.key(whose)
    headers = {"accept-encoding": "identity"}
    return headers if key is None else headers | {"authorization": f"Bearer {key}"}


def _options(server: Server, request: Request) -> dict[str, Any]:
    key = server.key(request.key)
    # A compressed reply could not be shown as it was sent.
    headers: Mapping[str, Any] = {"accept-encoding": "identity"}
    if key is None:
        headers = {**headers, "authorization": openai.omit}
    return {
        "base_url": server.base_url,
        "api_key": key or "none",
        "default_headers": headers,
        "max_retries": 0,
        "timeout": server.timeout,
        "_strict_response_validation": request.strict,
    }


def _finished(exchanges: list[Exchange], run: Any) -> Outcome:
    """Make the call and record the reply or the error."""
    exchanges.clear()
    begun = time.monotonic()
    outcome = Outcome()
    try:
        outcome.parsed = run()
    except Exception as error:  # noqa: BLE001 - any error of the client is a result
        outcome.error = error
    outcome.seconds = time.monotonic() - begun
    outcome.exchange = exchanges[-1] if exchanges else None
    return outcome


def _has_left(request: Request, exchanges: list[Exchange]) -> bool:
    return request.leave_after is not None and len(read_events(exchanges[-1].text)[0]) >= request.leave_after


def _slowly(pieces: list[str], pause: float) -> Iterator[bytes]:
    for number, piece in enumerate(pieces):
        if number:
            time.sleep(pause)
        yield piece.encode()


async def _as_async(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
