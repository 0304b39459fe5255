"""The base of all errors that a client sees, and those that the HTTP layer raises."""

from __future__ import annotations

import math
from collections.abc import Mapping

SHOWN = 200
"""Characters of what a client sent that a message repeats."""


def shorten(text: str) -> str:
    """Text of the client's for a message, cut where it is long: nobody gets 16 MB back for a bad name."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


class APIError(Exception):
    """An error with an HTTP status and OpenAI's four error fields.

    `message` reaches the client as it stands, so it never holds internals. `headers` are added to the response.
    """

    status = 500
    type = "server_error"
    code: str | None = None
    reason: str | None = None
    """What metrics call it, one of a fixed set; the code where it is None."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code or self.code
        self.status = status or self.status
        self.type = type or self.type
        self.headers: dict[str, str] = dict(headers or {})


class ClientError(APIError):
    """The request is at fault."""

    status = 400
    type = "invalid_request_error"


class BadRequest(ClientError):
    """400: the request cannot be understood or a value is out of range."""


class RequestTimeout(ClientError):
    """408: the body came too slowly."""

    status = 408
    code = "request_timeout"


class BodyTooLarge(ClientError):
    """413: the body is over the route's limit."""

    status = 413
    code = "request_too_large"


class UnsupportedMediaType(ClientError):
    """415: a content type that the route does not read."""

    status = 415
    code = "unsupported_media_type"


class HeadTooLarge(ClientError):
    """431: the request's head is over the limit."""

    status = 431
    code = "request_head_too_large"


class UnsupportedVersion(APIError):
    """505: a version of HTTP that there is not."""

    status = 505
    code = "unsupported_http_version"


class Unavailable(APIError):
    """503: a model is loading, the server drains, or an engine failed; `retry_after` is in seconds."""

    status = 503
    code = "unavailable"

    def __init__(self, message: str, *, retry_after: float | None = 5.0, code: str | None = None) -> None:
        super().__init__(message, code=code, headers={} if retry_after is None else retry_headers(retry_after))


def retry_headers(seconds: float) -> dict[str, str]:
    """The standard header has whole seconds; OpenAI's client prefers the other, which is finer. Both are rounded up: a
    client that waits so long is not refused again."""
    return {"retry-after": str(max(1, math.ceil(seconds))), "retry-after-ms": str(math.ceil(seconds * 1000))}
