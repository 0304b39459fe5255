"""JSON bodies and forms as typed requests. A wrong one is a 400 that names the field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import accumulate
from typing import TypeVar

import msgspec

from ark.errors import BadRequest, shorten

T = TypeVar("T")

DEPTH = 128
"""Arrays and objects inside each other, where no limit is given."""

_AT = re.compile(r"(?P<reason>.*) - at `(key in )?\$(?P<path>[^`]*)`", re.DOTALL)
_KEYED = re.compile(r"\[\.\.\.\].*", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]+)`")
_HALF_A_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
_NO_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_STEPS = bytes.maketrans(b"[]", b"\x01\xff")
"""Up and down, as signed bytes."""


def decode(decoder: msgspec.json.Decoder[T], body: bytes, *, depth: int = DEPTH) -> T:
    """Decode a body. Raises BadRequest with `param` as ``messages[0].role``, and for one that is nested too deeply."""
    if is_deeper(body, depth):
        raise BadRequest(f"The body is nested more than {depth} deep.", code="invalid_json")
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except msgspec.DecodeError as error:
        said = f"The body is not valid JSON: {error}"
        if _HALF_A_PAIR.search(body):
            # As JavaScript writes text that was cut inside an emoji; msgspec calls it truncated.
            said = "The body has half of a surrogate pair, which is no text."
        raise BadRequest(said, code="invalid_json") from error
    except UnicodeDecodeError as error:
        raise BadRequest("The body is not valid UTF-8.", code="invalid_json") from error
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply.", code="invalid_json") from error


def convert(fields: Mapping[str, object], kind: type[T]) -> T:
    """The texts of a form as a typed request. Raises BadRequest with `param`."""
    try:
        return msgspec.convert(fields, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error


def is_deeper(body: bytes, depth: int) -> bool:
    """Whether arrays and objects are nested more than `depth` deep. Of a body that is no JSON, anything.

    Also counts in those parts that the decoder skips: whatever reads them later may call itself for each level.
    """
    if body.count(b"[") + body.count(b"{") <= depth:
        return False
    # Remove strings: escapes first, so that each quote left begins or ends one, then the strings without brackets, and
    # of the rest every other piece.
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_BRACKETS).replace(b'""', b"")
    brackets = b"".join(bare.split(b'"')[::2])
    # The innermost pairs are most of them; they add a level to what is left.
    outer = brackets.translate(_ONE_KIND).replace(b"[]", b"")
    return any(level >= depth for level in accumulate(memoryview(outer.translate(_STEPS)).cast("b")))


def _invalid(text: str) -> BadRequest:
    reason, path = text, ""
    # msgspec tells the place only in its text, and not the key in a mapping: the mapping itself is named then.
    if match := _AT.fullmatch(text):
        reason, path = match["reason"], _KEYED.sub("", match["path"].removeprefix("."))
    reason = shorten(reason)
    if missing := _MISSING.fullmatch(reason):
        path = f"{path}.{missing['field']}" if path else missing["field"]
        message = f"Missing required parameter: '{path}'."
        return BadRequest(message, param=path, code="missing_required_parameter")
    code = "invalid_type" if reason.startswith("Expected `") and ", got `" in reason else "invalid_value"
    if not path:
        return BadRequest(f"The body is not as expected: {reason}.", code=code)
    return BadRequest(f"Invalid '{path}': {reason}.", param=path, code=code)
