"""A transport below OpenAI's client that records each request and its reply byte for byte."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2


@dataclass
class Exchange:
    """One request, and as much of its reply as has arrived."""

    method: str
    url: str
    request_headers: list[tuple[str, str]]
    request_pieces: list[bytes] = field(default_factory=list)
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    complete: bool = False
    """Whether the whole body of the reply has arrived."""
    begun: float = field(default_factory=time.monotonic)
    """When the request was sent, on the monotonic clock."""

    @property
    def request_body(self) -> bytes:
        """As much of the body as was sent."""
        return b"".join(self.request_pieces)

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def header(self, name: str) -> str | None:
        """A header's value. Repeated headers are joined with commas."""
        found = [value for key, value in self.headers if key == name]
        return ", ".join(found) if found else None

    def header_of_request(self, name: str) -> str:
        """A request header's value, or an empty text."""
        return next((value for key, value in self.request_headers if key.lower() == name), "")

    def json(self) -> Any:
        """The reply's body as JSON, or None if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def is_stream(self) -> bool:
        return (self.header("content-type") or "").startswith("text/event-stream")


@dataclass
class Event:
    """One server-sent event."""

    data: str
    event: str = "message"


_LINE_END = re.compile("\r\n|\r|\n")


def read_events(text: str) -> tuple[list[Event], int]:
    """The events of a stream and the number of comments, as the WHATWG specifies.

    An event that no blank line ends is incomplete and left out.
    """
    events: list[Event] = []
    data: list[str] = []
    kind, comments = "", 0
    for line in _LINE_END.split(text.removeprefix("\ufeff"))[:-1]:
        if not line:
            if data:
                events.append(Event("\n".join(data), kind or "message"))
            data, kind = [], ""
        elif line.startswith(":"):
            comments += 1
        else:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            elif name == "event":
                kind = value
    return events, comments


Sink = Callable[[Exchange], None]


class _Sent(httpx2.SyncByteStream):
    """Records a request's body while it is sent."""

    def __init__(self, stream: httpx2.SyncByteStream, exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._exchange.request_pieces.append(piece)
            yield piece

    def close(self) -> None:
        self._stream.close()


class _AsyncSent(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, exchange: Exchange) -> None:
        self._stream = stream
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self._exchange.request_pieces.append(piece)
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


def _keep(exchange: Exchange, piece: bytes, longest: float) -> None:
    """Raises ReadTimeout if the reply takes too long, even if it never pauses."""
    exchange.pieces.append(piece)
    if time.monotonic() - exchange.begun > longest:
        raise httpx2.ReadTimeout(f"the reply has not ended within {longest:g} seconds")


class _Tee(httpx2.SyncByteStream):
    def __init__(self, stream: httpx2.SyncByteStream, exchange: Exchange, longest: float) -> None:
        self._stream = stream
        self._pieces = iter(stream)
        self._exchange = exchange
        self._longest = longest

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._pieces:
            _keep(self._exchange, piece, self._longest)
            yield piece
        self._exchange.complete = True

    def close(self) -> None:
        # The synchronous client stops at [DONE]. Read on, so that anything after it is recorded.
        if not self._exchange.complete and b"data: [DONE]" in self._exchange.body[-64:]:
            with suppress(httpx2.HTTPError):
                for _ in self:
                    pass
        self._stream.close()


class _AsyncTee(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, exchange: Exchange, longest: float) -> None:
        self._stream = stream
        self._exchange = exchange
        self._longest = longest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            _keep(self._exchange, piece, self._longest)
            yield piece
        self._exchange.complete = True

    async def aclose(self) -> None:
        await self._stream.aclose()


class Recorder(httpx2.BaseTransport):
    """Pass each exchange to `sink` when its request is sent.

    The exchange grows while the reply is read, for at most `longest` seconds.
    """

    def __init__(self, inner: httpx2.BaseTransport, sink: Sink, longest: float = math.inf) -> None:
        self._inner = inner
        self._sink = sink
        self._longest = longest

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = _begun(request)
        self._sink(exchange)
        if isinstance(request.stream, httpx2.SyncByteStream):
            request.stream = _Sent(request.stream, exchange)
        response = self._inner.handle_request(request)
        _answered(exchange, response)
        if isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = _Tee(response.stream, exchange, self._longest)
        return response

    def close(self) -> None:
        self._inner.close()


class AsyncRecorder(httpx2.AsyncBaseTransport):
    """`Recorder` for the asyncio client."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, sink: Sink, longest: float = math.inf) -> None:
        self._inner = inner
        self._sink = sink
        self._longest = longest

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        exchange = _begun(request)
        self._sink(exchange)
        if isinstance(request.stream, httpx2.AsyncByteStream):
            request.stream = _AsyncSent(request.stream, exchange)
        response = await self._inner.handle_async_request(request)
        _answered(exchange, response)
        if isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _AsyncTee(response.stream, exchange, self._longest)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def _begun(request: httpx2.Request) -> Exchange:
    return Exchange(request.method, str(request.url), list(request.headers.multi_items()))


def _answered(exchange: Exchange, response: httpx2.Response) -> None:
    exchange.status = response.status_code
    exchange.headers = [(name.lower(), value) for name, value in response.headers.multi_items()]
