"""The errors that a client sees.

Each carries its HTTP status and OpenAI's four error fields. `ark.http.exchange` turns an error into a response, or into
an event once a stream has begun.
"""

# ruff: noqa: PLC0414

from __future__ import annotations

from ark.http.errors import APIError as APIError
from ark.http.errors import BadRequest as BadRequest
from ark.http.errors import BodyTooLarge as BodyTooLarge
from ark.http.errors import ClientError as ClientError
from ark.http.errors import HeadTooLarge as HeadTooLarge
from ark.http.errors import RequestTimeout as RequestTimeout
from ark.http.errors import Unavailable as Unavailable
from ark.http.errors import UnsupportedMediaType as UnsupportedMediaType
from ark.http.errors import retry_headers
from ark.http.errors import shorten as shorten


class UnsupportedParameter(BadRequest):
    """400: the serving model cannot honour a parameter that would change the answer."""

    code = "unsupported_parameter"


class ContextLengthExceeded(BadRequest):
    """400: the prompt and the tokens asked for do not fit the model's context."""

    code = "context_length_exceeded"


def invalid_value(param: str, reason: str, *, code: str = "invalid_value") -> BadRequest:
    """400: a parameter's value cannot be used, for a reason that ends with a full stop."""
    return BadRequest(f"Invalid '{param}': {reason}", param=param, code=code)


def missing_parameter(param: str) -> BadRequest:
    """400: a parameter that the request needs was not sent."""
    return BadRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


class Unauthorized(ClientError):
    """401: no key, or one that is not known."""

    status = 401
    code = "invalid_api_key"


class Forbidden(ClientError):
    """403: the request is understood, and nobody may make it."""

    status = 403


class NotFound(ClientError):
    """404: an unknown path, model or session."""

    status = 404


class ModelNotFound(NotFound):
    """404: the name is neither a served model nor an alias."""

    code = "model_not_found"


class MethodNotAllowed(ClientError):
    """405: the path exists, the method does not; `allow` lists those that do."""

    status = 405
    code = "method_not_allowed"

    def __init__(self, allow: str) -> None:
        super().__init__(f"Only {allow} requests are accepted here.", headers={"allow": allow})


class Conflict(ClientError):
    """409: the request conflicts with one that is being served."""

    status = 409


class TooManyRequests(APIError):
    """429: a queue is full or a limit of the key's is reached; `retry_after` is in seconds."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    reason = "queue_full"

    def __init__(self, message: str, *, retry_after: float = 1.0, code: str | None = None) -> None:
        super().__init__(message, code=code, headers=retry_headers(retry_after))
