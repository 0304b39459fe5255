"""The errors that a client sees.

Every exception that is meant for a client carries its HTTP status and OpenAI's four error fields. One place,
`ark.http.exchange`, turns them into a reply, or into an event inside a stream that has begun.
"""

from __future__ import annotations

import math
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


class UnsupportedParameter(BadRequest):
    """400: the serving model cannot honour a parameter that would change the answer."""

    code = "unsupported_parameter"


class ContextLengthExceeded(BadRequest):
    """400: the prompt and the tokens asked for do not fit the model's context."""

    code = "context_length_exceeded"


class Unauthorized(APIError):
    """401: no key, or one that is not known."""

    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"


class Forbidden(APIError):
    """403: the request is understood, and nobody may make it."""

    status = 403
    type = "invalid_request_error"


class NotFound(APIError):
    """404: an unknown path, model or session."""

    status = 404
    type = "invalid_request_error"


class ModelNotFound(NotFound):
    """404: the name is neither a served model nor an alias."""

    code = "model_not_found"


class MethodNotAllowed(APIError):
    """405: the path exists, the method does not; `allow` lists those that do."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"

    def __init__(self, allow: str) -> None:
        super().__init__(f"Only {allow} requests are accepted here.", headers={"allow": allow})


class RequestTimeout(APIError):
    """408: the body came too slowly."""

    status = 408
    type = "invalid_request_error"
    code = "request_timeout"


class Conflict(APIError):
    """409: the request conflicts with one that is being served."""

    status = 409
    type = "invalid_request_error"


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


class TooManyRequests(APIError):
    """429: a queue is full or a limit of the key's is reached; `retry_after` is in seconds."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    reason = "queue_full"

    def __init__(self, message: str, *, retry_after: float = 1.0, code: str | None = None) -> None:
        super().__init__(message, code=code, headers=_retry_headers(retry_after))


class Unavailable(APIError):
    """503: a model is loading, the server drains, or an engine failed; `retry_after` is in seconds."""

    status = 503
    type = "server_error"
    code = "unavailable"

    def __init__(self, message: str, *, retry_after: float | None = 5.0, code: str | None = None) -> None:
        headers = {} if retry_after is None else _retry_headers(retry_after)
        super().__init__(message, code=code, headers=headers)


def _retry_headers(seconds: float) -> dict[str, str]:
    # The whole-second header is the standard; OpenAI's client prefers the other, which is finer. Both are rounded up: a
    # client that waits so long is not refused again.
    return {"retry-after": str(max(1, math.ceil(seconds))), "retry-after-ms": str(math.ceil(seconds * 1000))}


SHOWN = 200
"""Characters of what a client sent that a message says again."""


def shorten(text: str) -> str:
    """A text of the client's for a message, cut where it is long: nobody gets 16 MB back for a bad name."""
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
