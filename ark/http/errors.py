"""Errors that carry their HTTP status, and those that reading a request raises."""

from __future__ import annotations

from collections.abc import Mapping


class APIError(Exception):
    """An error with an HTTP status and an OpenAI error object.

    `message` reaches the client as it stands, so it never holds internals. `headers` are added to the reply.
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
        self.headers: dict[str, str] = dict(headers or {})
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status
        if type is not None:
            self.type = type


class BadRequest(APIError):
    """400: the request cannot be understood or a value is out of range."""

    status = 400
    type = "invalid_request_error"


class RequestTimeout(APIError):
    """408: the body came too slowly."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class BodyTooLarge(APIError):
    """413: the body is over the route's limit."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class HeadTooLarge(APIError):
    """431: the request's head is over the limit."""

    status = 431
    type = "invalid_request_error"
    code = "request_head_too_large"


class UnsupportedMediaType(APIError):
    """415: a content type that the route does not read."""

    status = 415
    type = "invalid_request_error"
    code = "unsupported_media_type"


SHOWN = 200
"""Characters of what a client sent that a message says again."""


def shorten(text: str) -> str:
    """A text of the client's for a message, cut where it is long: nobody gets 16 MB back for a bad name."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
