"""A request: its head, its cookies, and its body, read once and held to limits of size and time."""

from __future__ import annotations

import math
import random
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, MutableMapping
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import parse_qsl

import anyio
import msgspec

from ark.http.cors import CORSConfig
from ark.http.errors import (
    BadRequest,
    BodyTooLarge,
    ClientError,
    HeadTooLarge,
    UnsupportedMediaType,
    UnsupportedVersion,
    shorten,
)
from ark.http.forms import Form, boundary_of

Scope = Mapping[str, Any]
ASGIMessage = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[ASGIMessage]]
Send = Callable[[ASGIMessage], Awaitable[None]]
Reads = Literal["json", "form"] | None
"""The kind of body that a route reads."""

HEAD_BYTES = 16 * 1024
"""Limit of a request's head. Hypercorn holds a head that arrives in pieces to it, and one that arrives at once to
nothing."""

_URL = re.compile(r"https?://([^/]*)(/.*)?", re.IGNORECASE | re.DOTALL)
ANY = "*"
"""Among the allowed hosts, allows all."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class ClientDisconnect(Exception):
    """The client closed the connection; nobody is left to answer."""


class WriteTimeout(ClientDisconnect):
    """The client keeps the connection open and reads nothing of what is sent."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The head of a request, and its body once it has been read."""

    id: str
    method: str
    path: str
    """Below the mount point, percent-decoded, without a trailing slash."""
    root: str = ""
    """Where the application is mounted."""
    query: str = ""
    """What stands behind the path's question mark, percent-encoded."""
    headers: dict[bytes, bytes]
    """Names in lower case; values of a repeated header are joined with a comma, of cookies with a semicolon."""
    body: bytes = b""
    form: Form | None = None
    """In place of the body on the routes that read a form. It is closed after the response."""

    def query_fields(self) -> dict[str, str]:
        """The fields of the query; of a repeated one the last. Raises BadRequest for too many."""
        try:
            return dict(parse_qsl(self.query, keep_blank_values=True, max_num_fields=64))
        except ValueError as error:
            raise BadRequest("The query has too many fields.", code="invalid_value") from error

    def cookie(self, name: str) -> str | None:
        header = self.header("cookie")
        return None if header is None else read_cookies(header).get(name)

    def header(self, name: str) -> str | None:
        value = self.headers.get(name.encode("latin-1"))
        return None if value is None else value.decode("latin-1")


def is_http1(scope: Scope) -> bool:
    version: str = scope.get("http_version", "1.1")
    return version.startswith("1")


def origin_form(scope: Scope) -> Scope:
    """The scope of a request whose target may be a whole URL, as clients send it to a proxy. Such a target's host is
    the request's, whatever `Host` says. See RFC 9112, section 3.2.2."""
    found = None if scope["path"].startswith("/") else _URL.fullmatch(scope["path"])
    if found is None:
        return scope
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"host"]
    return {**scope, "path": found[2] or "/", "headers": [*headers, (b"host", found[1].encode())]}


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


def request_id(headers: Mapping[bytes, bytes]) -> str:
    """The client's own x-request-id where it is a sane one, otherwise a new one: a name and no secret."""
    sent = headers.get(b"x-request-id", b"")
    return sent.decode() if _REQUEST_ID.fullmatch(sent) else f"req_{random.getrandbits(128):032x}"


def check_head(scope: Scope, headers: Mapping[bytes, bytes]) -> None:
    """Raises HeadTooLarge, UnsupportedVersion, and BadRequest for a body that has two lengths.

    Where a proxy goes by the one and the server by the other, the end of a body is a request that the proxy never saw.
    See RFC 9112, section 6.3.
    """
    version: str = scope.get("http_version", "1.1")
    if not version.startswith("1.") and version not in ("2", "3"):
        raise UnsupportedVersion(f"There is no HTTP/{shorten(version)} here; there is HTTP/1.1 and HTTP/2.")
    size = len(scope["path"]) + len(scope.get("query_string", b""))
    size += sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"])
    if size > HEAD_BYTES:
        raise HeadTooLarge(f"The request's head is larger than {HEAD_BYTES} bytes.")
    if b"content-length" in headers and b"transfer-encoding" in headers:
        raise BadRequest("The body is sent with both a content-length and a transfer-encoding.", code="invalid_framing")


# These keep web pages from using an open server through the browser of somebody who can reach it. A page whose own name
# resolves to the server's address (DNS rebinding) is of the same origin as the server: only ``Host`` tells it apart.
# Every other page is told apart by ``Origin``, which browsers send with each request that can change something.


def check_host(headers: Mapping[bytes, bytes], allowed: Collection[str]) -> None:
    """Raise a 403 unless ``Host`` is a loopback name or one of the `allowed`. No browser leaves ``Host`` out, so a
    request without one passes."""
    host = host_name(headers.get(b"host", b"localhost").decode("latin-1"))
    if ANY not in allowed and host not in allowed and not is_loopback(host):
        reason = f"This server does not answer to the host '{shorten(host)}': it is not in [server] allowed_hosts."
        raise ClientError(reason, code="host_not_allowed", status=403)


def check_origin(headers: Mapping[bytes, bytes], cors: CORSConfig | None) -> None:
    """Raise a 403 for a request of a page that is neither the server's own nor one that `cors` allows. The request has
    an ``Origin``."""
    origin = headers[b"origin"]
    if origin.partition(b"://")[2] == headers.get(b"host"):
        return
    text = origin.decode("latin-1")
    if cors is None or not cors.allows(text):
        raise ClientError(f"Pages of {shorten(text)} may not use this server.", code="origin_not_allowed", status=403)


def host_name(text: str) -> str:
    """The name or the address in a ``Host``, without the port."""
    text = text.strip().lower()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0].rstrip(".")


@lru_cache
def is_loopback(host: str) -> bool:
    """Whether a host is this machine, whatever a name server says."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def check_content(headers: Mapping[bytes, bytes], reads: Reads) -> bytes:
    """What separates the parts of a form; empty where none is read. Raises UnsupportedMediaType, and BadRequest where a
    form has no boundary."""
    if reads is None:
        return b""
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    kind = content_type.partition(";")[0].strip().lower()
    if reads == "json" and kind != "application/json" and not kind.endswith("+json"):
        # Web pages may send other types, or none, anywhere without asking first.
        sent = shorten(kind) or "no content-type"
        raise UnsupportedMediaType(f"The body is sent as {sent}; this route reads application/json.")
    coding = headers.get(b"content-encoding", b"").strip().lower().decode("latin-1")
    if coding not in ("", "identity"):
        # What is compressed has no size that a limit could be held against before.
        raise UnsupportedMediaType(f"The body is sent as {shorten(coding)}; it is read as it is only.")
    return boundary_of(content_type) if reads == "form" else b""


def read_cookies(header: str) -> dict[str, str]:
    """Cookies by name; of a repeated one the first. A malformed one is skipped, and loses no other."""
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
    same. `chunk_timeout` is the time between two chunks and `total_timeout` that for all of them, in seconds:
    `expire_at` is told when each wait has to be over, and infinity once it is. The constructor and reading raise
    BodyTooLarge; reading raises ClientDisconnect too.
    """

    def __init__(
        self,
        receive: Receive,
        headers: Mapping[bytes, bytes],
        *,
        limit: int,
        expire_at: Callable[[float], None],
        chunk_timeout: float,
        total_timeout: float,
    ) -> None:
        self._receive = receive
        self._limit = limit
        self._expire_at = expire_at
        self._chunk_timeout = chunk_timeout
        self._end = anyio.current_time() + total_timeout
        self._size = 0
        self._ended = False
        declared = headers.get(b"content-length", b"")
        if declared.isdigit() and (len(declared) > 18 or int(declared) > limit):
            raise self._too_large()

    async def read(self) -> bytes:
        """The whole body."""
        chunks = []
        while not self._ended:
            chunks.append(await self._next())
        return b"".join(chunks)

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes."""
        while not self._ended:
            yield await self._next()

    async def _next(self) -> bytes:
        self._expire_at(min(self._end, anyio.current_time() + self._chunk_timeout))
        message = await self._receive()
        self._expire_at(math.inf)
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        self._size += len(chunk)
        if self._size > self._limit:
            raise self._too_large()
        self._ended = not message.get("more_body", False)
        return chunk

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The request's body is larger than {self._limit} bytes.")
