"""What endpoints get: an HTTP request with its API key and its record, and its body or form as a typed value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

import msgspec

from ark.concurrency import run_in_thread_if_large
from ark.config import KeyConfig, LimitsConfig
from ark.errors import BadRequest, missing_parameter, shorten
from ark.http import request
from ark.ops.requests import RequestRecord
from ark.sessions.response_node import Link

T = TypeVar("T")

CONTAINER = 10
"""Values that an array or an object counts as: so much more memory it takes."""

_AT = re.compile(r"(?P<reason>.*) - at (`key` in )?`\$(?P<path>[^`]*)`", re.DOTALL)
_KEYED = re.compile(r"\[\.\.\.\].*", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]+)`")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEPS = bytes.maketrans(b"[]{}", b"\x01\xff\x01\xff")
"""Up and down, as signed bytes."""
_BACKSLASHES = re.compile(rb"\\*")
_CHUNK_SIZE = 64 * 1024
"""Bytes that are looked at in one go: other threads run in between."""
_FEW = 256
"""Values and commas of texts together that are few, wherever they stand."""


def spend_nothing(tokens: int) -> None:
    """Stands where no rate is counted."""


class Request(request.Request, frozen=True, kw_only=True):
    """An admitted request."""

    record: RequestRecord
    """What becomes of the request."""
    key: KeyConfig | None = None
    """The API key that was sent; None where the server is open."""
    owner: str = ""
    """Whose sessions and retained state the request may see: the key's name, empty where the server is open."""
    address: str = ""
    """The client's, or its proxy's; empty where the server does not know it."""
    param: str = ""
    """What the path has in place of the route's braces."""
    item: str = ""
    """What it has in place of the second ones."""
    link: Link | None = None
    """The WebSocket that it came on."""
    spend: Callable[[int], None] = spend_nothing
    """Counts the tokens that a response cost against the key's rate. Called once, however the response ended."""


def ignored_header(names: Sequence[str]) -> list[tuple[str, str]]:
    """The header that tells a client which of its parameters were dropped; none where there are none."""
    return [("x-ark-ignored", ", ".join(names))] if names else []


def decode(decoder: msgspec.json.Decoder[T], body: bytes, limits: LimitsConfig) -> T:
    """Decode a body. Raises BadRequest with `param` as ``messages[0].role``, and where `check_shape` does."""
    check_shape(body, depth=limits.json_depth, values=limits.json_values)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except msgspec.DecodeError as error:
        said = f"The body is not valid JSON: {error}"
        if "surrogate pair" in _reason(decoder, body):
            # As JavaScript writes text that was cut inside an emoji.
            said = "The body has half of a surrogate pair, which is no text."
        raise BadRequest(said, code="invalid_json") from error
    except UnicodeDecodeError as error:
        raise BadRequest("The body is not valid UTF-8.", code="invalid_json") from error
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply.", code="invalid_json") from error


async def decode_body(decoder: msgspec.json.Decoder[T], body: bytes, limits: LimitsConfig) -> T:
    """`decode`, of a large body in a thread."""
    return await run_in_thread_if_large(len(body), lambda: decode(decoder, body, limits))


def convert(fields: Mapping[str, object], kind: type[T]) -> T:
    """The texts of a form as a typed request. Raises BadRequest with `param`."""
    try:
        return msgspec.convert(fields, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error


def check_shape(body: bytes, *, depth: int, values: int) -> int:
    """Count the values of a body before it is decoded, those too that the decoder passes over.

    A decoder holds all other threads up until its end, and takes 30 times the size of ``[],``. Whatever reads the
    values later may call itself for each level. Raises BadRequest. Of a body that is no JSON, anything.
    """
    brackets = body.count(b"[") + body.count(b"{")
    count = body.count(b",") + body.count(b":") + CONTAINER * brackets
    if brackets <= depth and count <= min(values, _FEW):
        return count
    count = level = start = 0
    in_string = False
    while start < len(body):
        end = start + _CHUNK_SIZE
        if body[end - 1 : end] == b"\\":
            # A chunk does not end inside an escape.
            end = _BACKSLASHES.match(body, end).end() + 1  # type: ignore[union-attr]
        parts = body[start:end].replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        bare = b"".join(parts[in_string::2])
        in_string ^= len(parts) % 2 == 0
        steps = bare.translate(_STEPS, _NO_BRACKETS)
        count += bare.count(b",") + bare.count(b":") + CONTAINER * steps.count(1)
        if count > values:
            reason = (
                f"The body has more than {values} values and keys, where an array or an object counts as {CONTAINER}."
            )
            raise BadRequest(reason, code="invalid_json")
        levels = [*accumulate(memoryview(steps).cast("b"), initial=level)]
        if max(levels) > depth:
            raise BadRequest(f"The body is nested more than {depth} deep.", code="invalid_json")
        level, start = levels[-1], end
    return count


def _reason(decoder: msgspec.json.Decoder[T], body: bytes) -> str:
    """Why a body is no JSON. Msgspec looks that far ahead for the other half of a pair, and calls the body truncated
    where it ends before."""
    try:
        decoder.decode(body + b" " * 12)
    except ValueError as error:
        return str(error)
    return ""


def _invalid(text: str) -> BadRequest:
    reason, path = text, ""
    # msgspec tells the place only in its text, and not the key in a mapping: the mapping itself is named then.
    if match := _AT.fullmatch(text):
        reason, path = match["reason"], _KEYED.sub("", match["path"].removeprefix("."))
    reason = shorten(reason)
    if missing := _MISSING.fullmatch(reason):
        path = f"{path}.{missing['field']}" if path else missing["field"]
        return missing_parameter(path)
    code = "invalid_type" if reason.startswith("Expected `") and ", got `" in reason else "invalid_value"
    if not path:
        return BadRequest(f"The body is not as expected: {reason}.", code=code)
    return BadRequest(f"Invalid '{path}': {reason}.", param=path, code=code)
