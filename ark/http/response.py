"""Responses as values. `ark.http.exchange` sends them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

import msgspec

from ark.http.errors import APIError

JSON = b"application/json"

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

    It starts with the first event, or with a keep-alive comment when that takes long. Until then an exception becomes
    an ordinary error response, and afterwards the event that `error_event` makes of it.
    """

    events: AsyncGenerator[bytes, None]
    headers: Callable[[], Sequence[tuple[str, str]]]
    """What is known of them when the response starts. Called once."""
    error_event: Callable[[APIError], bytes]
