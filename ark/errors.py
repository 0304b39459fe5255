"""The errors that a client sees.

Every exception that is meant for a client carries its HTTP status and OpenAI's four error fields. One place,
`ark.http.exchange`, turns them into a reply, or into an event inside a stream that has begun.
"""

from __future__ import annotations

import math

from ark.http.errors import (
    APIError,
    BadRequest,
    BodyTooLarge,
    HeadTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
    shorten,
)

__all__ = [
    "APIError",
    "BadRequest",
    "BodyTooLarge",
    "Conflict",
    "ContextLengthExceeded",
    "Forbidden",
    "HeadTooLarge",
    "MethodNotAllowed",
    "ModelNotFound",
    "NotFound",
    "RequestTimeout",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnsupportedMediaType",
    "UnsupportedParameter",
    "shorten",
]


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


class Conflict(APIError):
    """409: the request conflicts with one that is being served."""

    status = 409
    type = "invalid_request_error"


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
