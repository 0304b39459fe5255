"""The ASGI layer: headers, cookies, bounded bodies, replies and server-sent events.

Only this module, `ark.http.exchange` and `ark.app` touch `receive` and `send`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any
from urllib.parse import quote

import anyio
import msgspec

from ark.config import KeyConfig
from ark.errors import APIError, BadRequest, BodyTooLarge, HeadTooLarge, RequestTimeout
from ark.http.forms import Form
from ark.ops.limits import Ticket
from ark.ops.record import Record

Scope = Mapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"

PIECE = 64 * 1024
"""Bytes of a reply that are sent at once: what a slow client has to take before its time begins anew."""

HEAD_BYTES = 16 * 1024
"""Of a request's head. Hypercorn holds one that comes in pieces to the same, and one that comes at once to nothing."""

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


class ClientGone(Exception):
    """The client closed the connection; nobody is left to answer."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The head of a request, and its body once it has been read."""

    id: str
    method: str
    path: str
    """Below the mount point, percent-decoded, without a trailing slash."""
    root: str = ""
    """Where the application is mounted."""
    record: Record
    """What becomes of the request."""
    headers: dict[bytes, bytes]
    """Names in lower case; values of a repeated header are joined with a comma, of cookies with a semicolon."""
    body: bytes = b""
    form: Form | None = None
    """In place of the body on the routes that read a form. It is closed behind the reply."""
    key: KeyConfig | None = None
    """The API key that was sent; None where the server is open."""
    param: str = ""
    """What the path has after the route's prefix."""
    ticket: Ticket | None = None
    """There on the routes that ask an engine for work."""

    def spend(self, tokens: int) -> None:
        """Count what the reply cost against the key's rate. Called once, however the reply ended."""
        if self.ticket is not None:
            self.ticket.spend(tokens)

    @property
    def owner(self) -> str:
        """Whose sessions and retained state the request may see; empty where the server is open."""
        return "" if self.key is None else self.key.name

    def cookie(self, name: str) -> str | None:
        header = self.header("cookie")
        return None if header is None else read_cookies(header).get(name)

    def header(self, name: str) -> str | None:
        value = self.headers.get(name.encode("latin-1"))
        return None if value is None else value.decode("latin-1")


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole reply."""

    body: bytes
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    content_type: bytes = JSON


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """A reply of server-sent events.

    The reply starts with the first event, or with a keep-alive comment when that takes long; until then `headers`
    may still grow, and an exception becomes an ordinary error reply.
    """

    events: AsyncGenerator[bytes, None]
    headers: list[tuple[str, str]]
    error_event: Callable[[APIError], bytes]


def route_path(scope: Scope) -> str:
    """The path below the mount point.

    ASGI says that `path` holds `root_path`; some parents cut it off before they call a mounted app. Both work.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    return path.rstrip("/") or "/"


def read_headers(scope: Scope) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for raw, value in scope["headers"]:
        name = raw.lower()
        if name in headers:
            separator = b"; " if name == b"cookie" else b", "
            headers[name] += separator + value
        else:
            headers[name] = value
    return headers


def check_head(scope: Scope, headers: Mapping[bytes, bytes]) -> None:
    """Raises HeadTooLarge, and BadRequest for a body that has two lengths.

    Where a proxy goes by the one and the server by the other, the end of a body is a request that the proxy never saw.
    See RFC 9112, section 6.3.
    """
    size = len(scope["path"]) + len(scope.get("query_string", b""))
    size += sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
    if size > HEAD_BYTES:
        raise HeadTooLarge(f"The request's head is larger than {HEAD_BYTES} bytes.")
    if b"content-length" in headers and b"transfer-encoding" in headers:
        raise BadRequest("The body is sent with both a content-length and a transfer-encoding.", code="invalid_framing")


def read_cookies(header: str) -> dict[str, str]:
    """Cookies by name, the first of a name first. A malformed one is passed over and the others are kept."""
    cookies: dict[str, str] = {}
    for pair in header.split(";"):
        name, equals, value = pair.partition("=")
        name, value = name.strip(), value.strip()
        if not equals or not name:
            continue
        if len(value) >= 2 and value[0] == value[-1] == '"':
            value = value[1:-1]
        cookies.setdefault(name, value)
    return cookies


class Body:
    """A request's body, read once, at most `limit` bytes of it.

    A declared length over the limit is refused before anything is read; the bytes are counted as they come all the
    same. Timeouts are in seconds: `piece_timeout` between two pieces, `total_timeout` for all of them. Making it and
    reading it raise BodyTooLarge, reading it RequestTimeout and ClientGone.
    """

    def __init__(
        self,
        receive: Receive,
        headers: Mapping[bytes, bytes],
        *,
        limit: int,
        piece_timeout: float,
        total_timeout: float,
    ) -> None:
        self._receive = receive
        self._limit = limit
        self._piece_timeout = piece_timeout
        self._end = anyio.current_time() + total_timeout
        self._size = 0
        self._ended = False
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
            raise self._too_large()

    async def read(self) -> bytes:
        """The whole body."""
        pieces = []
        # One limit of time, which is put off: making one anew for each piece costs more than reading a small body.
        with anyio.CancelScope(deadline=self._deadline()) as scope:
            while True:
                pieces.append(self._take(await self._receive()))
                if self._ended:
                    break
                scope.deadline = self._deadline()
        _check_time(scope)
        return b"".join(pieces)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes."""
        while not self._ended:
            # Not around the `yield`: there a scope would cancel whoever reads.
            with anyio.CancelScope(deadline=self._deadline()) as scope:
                piece = self._take(await self._receive())
            _check_time(scope)
            yield piece

    def _deadline(self) -> float:
        return min(self._end, anyio.current_time() + self._piece_timeout)

    def _take(self, message: Message) -> bytes:
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        self._size += len(piece)
        if self._size > self._limit:
            raise self._too_large()
        self._ended = not message.get("more_body", False)
        return piece

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The request's body is larger than {self._limit} bytes.")


def _check_time(scope: anyio.CancelScope) -> None:
    if scope.cancelled_caught:
        raise RequestTimeout("The request's body came too slowly.")


async def wait_for_disconnect(receive: Receive) -> None:
    """Returns when the client is gone. Call it after the body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def encode_headers(headers: Sequence[tuple[str, str]]) -> list[Header]:
    """Names and values as bytes; a character that a header cannot hold is percent-encoded."""
    return [(name.lower().encode("ascii"), _header_value(value)) for name, value in headers]


def _header_value(value: str) -> bytes:
    if value.isascii() and value.isprintable():
        return value.encode("ascii")
    return quote(value, safe=" !#$%&'()*+,-./:;<=>?@[]^_`{|}~").encode("ascii")


async def send_reply(send: Send, reply: Reply, *, head: bool = False, end: bool = True) -> None:
    """Send a reply; with `end` unset the client has all of it and the server still waits for `send_end`."""
    headers = [
        (b"content-type", reply.content_type),
        (b"content-length", b"%d" % len(reply.body)),
        *encode_headers(reply.headers),
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    body = b"" if head else reply.body
    for start in range(0, len(body) or 1, PIECE):
        last = start + PIECE >= len(body)
        await send({"type": "http.response.body", "body": body[start : start + PIECE], "more_body": not (last and end)})


async def send_end(send: Send) -> None:
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def send_stream_start(send: Send, headers: Sequence[tuple[str, str]]) -> None:
    fixed = [
        (b"content-type", EVENT_STREAM),
        (b"cache-control", b"no-cache"),
        # nginx holds streams back without it.
        (b"x-accel-buffering", b"no"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": [*fixed, *encode_headers(headers)]})


def json_event(payload: bytes) -> bytes:
    """One event whose data is JSON, which has no line breaks."""
    return b"data: " + payload + b"\n\n"


_LINE_BREAK = re.compile(r"\r\n|\r|\n")


def text_event(text: str) -> bytes:
    """One event whose data is any text.

    A text with line breaks becomes several ``data:`` lines, which a client joins with line feeds again (a carriage
    return is a line break to SSE, and so arrives as a line feed). The one space after the colon is removed by the
    client, so a text that begins with a space keeps it.
    """
    lines = _LINE_BREAK.split(text)
    return ("".join(f"data: {line}\n" for line in lines) + "\n").encode("utf-8", "replace")
