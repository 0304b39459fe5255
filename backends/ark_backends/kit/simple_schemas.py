"""Schemas that are compiled without being tried out first, for it is plain that they do no harm.

They hold only keywords that llguidance turns into rules one by one: no patterns, no intersections (`allOf`, or an
`anyOf` or a `$ref` with something beside it), no identifiers that change what references mean. What remains is
bounded by the length of the text and by the depth of nesting. Whatever a client sends most of the time is such a
schema; it takes some milliseconds at most.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ark_backends.kit.schema_limits import beyond_limits
from ark_backends.kit.schema_references import nesting

MAX_LENGTH = 16_384
"""Characters of a grammar. The worst of this length that was found takes 0.1 s."""

MAX_NESTING = 100

MAX_COUNT = 10_000

MAX_STRING = 100_000
"""Characters of the longest string. It takes no longer to compile than a short one."""

FORMATS = frozenset({"date", "date-time", "duration", "email", "ipv4", "ipv6", "time", "uuid"})

_ANNOTATIONS = frozenset({"title", "description", "default", "examples", "deprecated", "$comment", "$schema"})


def is_simple(schema: dict[str, Any]) -> bool:
    """Whether a schema may be compiled at once. `schema` is a whole document."""
    try:
        return _is_plain(schema) and nesting(schema)[0] <= MAX_NESTING and beyond_limits(schema) is None
    except RecursionError:
        return False


def _is_plain(whole: dict[str, Any]) -> bool:
    open_parts: list[Any] = [{key: value for key, value in whole.items() if key != "x-guidance"}]
    while open_parts:
        part = open_parts.pop()
        if isinstance(part, bool):
            continue
        if not isinstance(part, dict):
            return False
        keywords = part.keys() - _ANNOTATIONS
        if keywords & {"$ref", "anyOf", "enum", "const"}:
            # By itself: what stands beside it would be intersected with it.
            keywords -= {"$defs", "definitions"}
            if len(keywords - {"type"}) > 1 or ("type" in keywords and keywords & {"$ref", "anyOf"}):
                return False
        for key, value in part.items():
            if key not in _ANNOTATIONS and not _KEYWORDS.get(key, _refuse)(value, open_parts):
                return False
    return True


def _refuse(_: Any, __: list[Any]) -> bool:
    return False


def _free(_: Any, __: list[Any]) -> bool:
    return True


def _is_count(value: Any, _: list[Any], most: int = MAX_COUNT) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def _is_number(value: Any, _: list[Any]) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_names(value: Any, _: list[Any]) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def _is_reference(value: Any, _: list[Any]) -> bool:
    """Of the plainest form, which means the same to everybody."""
    if not isinstance(value, str):
        return False
    *place, name = value.split("/")
    return value == "#" or (place in (["#", "$defs"], ["#", "definitions"]) and not {"~", "%"} & set(name))


def _is_schema(value: Any, open_parts: list[Any]) -> bool:
    open_parts.append(value)
    return True


def _is_schemas(value: Any, open_parts: list[Any]) -> bool:
    if not isinstance(value, dict | list):
        return False
    open_parts.extend(value.values() if isinstance(value, dict) else value)
    return True


_KEYWORDS: dict[str, Callable[[Any, list[Any]], bool]] = {
    "type": _is_names,
    "required": _is_names,
    "properties": _is_schemas,
    "$defs": _is_schemas,
    "definitions": _is_schemas,
    "anyOf": _is_schemas,
    "items": _is_schema,
    "additionalProperties": _is_schema,
    "enum": _free,
    "const": _free,
    "$ref": _is_reference,
    "format": lambda value, _: isinstance(value, str) and value in FORMATS,
    **dict.fromkeys(("minLength", "minItems", "maxItems"), _is_count),
    "maxLength": lambda value, _: _is_count(value, _, MAX_STRING),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
}
