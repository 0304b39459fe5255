"""Responses as values, and how they are sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from urllib.parse import quote

import msgspec

from ark.http.errors import APIError
from ark.http.request import Send

JSON = b"application/json"
EVENT_STREAM = b"text/event-stream; charset=utf-8"

CHUNK_SIZE = 64 * 1024
"""Bytes of a body that are sent at once: what a slow client has to take before its time begins anew."""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A whole response."""

    body: bytes
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    content_type: bytes = JSON


class EventStream(msgspec.Struct, frozen=True, kw_only=True):
    """A response of server-sent events.

    It starts with the first event, or with a keep-alive comment when that takes long; until then `headers` may still
    grow, and an exception becomes an ordinary error response.
    """

    events: AsyncGenerator[bytes, None]
    headers: list[tuple[str, str]]
    error_event: Callable[[APIError], bytes]


def encode_headers(headers: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Names and values as bytes; a character that a header cannot hold is percent-encoded."""
    return [(name.lower().encode("ascii"), _header_value(value)) for name, value in headers]


def _header_value(value: str) -> bytes:
    if value.isascii() and value.isprintable():
        return value.encode("ascii")
    return quote(value, safe=" !#$%&'()*+,-./:;<=>?@[]^_`{|}~").encode("ascii")


async def send_response(send: Send, response: Response, *, head: bool = False, end: bool = True) -> None:
    """Send a response; with `end` unset the client has all of it and the server still waits for `send_end`."""
    headers = [
        (b"content-type", response.content_type),
        (b"content-length", b"%d" % len(response.body)),
        *encode_headers(response.headers),
    ]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    body = b"" if head else response.body
    for start in range(0, len(body) or 1, CHUNK_SIZE):
        last = start + CHUNK_SIZE >= len(body)
        await send(
            {"type": "http.response.body", "body": body[start : start + CHUNK_SIZE], "more_body": not (last and end)}
        )


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
