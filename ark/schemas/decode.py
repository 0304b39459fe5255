"""The JSON door: bytes to a typed request, or a 400 that names the field."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from ark.errors import BadRequest, shorten

T = TypeVar("T")

_AT = re.compile(r"(?P<reason>.*) - at `(?P<key>key in )?\$(?P<path>[^`]*)`", re.DOTALL)
_KEYED = re.compile(r"\[\.\.\.\].*", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]+)`")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode a body. Raises BadRequest with `param` as ``messages[0].role``."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except msgspec.DecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error}", code="invalid_json") from error
    except UnicodeDecodeError as error:
        raise BadRequest("The body is not valid UTF-8.", code="invalid_json") from error
    except RecursionError as error:
        raise BadRequest("The body is nested too deeply.", code="invalid_json") from error


def _invalid(text: str) -> BadRequest:
    reason, path = text, ""
    # msgspec tells the place only in its text.
    if match := _AT.fullmatch(text):
        # In a mapping msgspec does not tell the key; the mapping itself is named then.
        reason, path = match["reason"], _KEYED.sub("", match["path"].removeprefix("."))
    reason = shorten(reason)
    code = "invalid_type" if reason.startswith("Expected `") and ", got `" in reason else "invalid_value"
    if missing := _MISSING.fullmatch(reason):
        path = f"{path}.{missing['field']}" if path else missing["field"]
        code = "missing_required_parameter"
        return BadRequest(f"Missing required parameter: '{path}'.", param=path, code=code)
    if not path:
        return BadRequest(f"The body is not as expected: {reason}.", code=code)
    return BadRequest(f"Invalid '{path}': {reason}.", param=path, code=code)
