"""OpenAI's error object."""

from __future__ import annotations

import msgspec

from ark.errors import APIError


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True):
    error: ErrorBody


def encode_error(error: APIError) -> bytes:
    body = ErrorBody(message=error.message, type=error.type, param=error.param, code=error.code)
    return msgspec.json.encode(ErrorReply(error=body))
