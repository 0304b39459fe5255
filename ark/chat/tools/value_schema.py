"""What a JSON schema says of a value that a model writes as bare text."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ark.engines.json_schema import resolve

_TEXT_LIMITS = frozenset({"pattern", "format", "minLength", "maxLength", "const", "enum", "allOf"})
_DEPTH = 8


class ValueSchema:
    """One parameter's part of the schema `root`."""

    def __init__(self, part: Any, root: Mapping[str, Any]) -> None:
        self._alternatives = _alternatives(part, root, _DEPTH)

    @cached_property
    def types(self) -> frozenset[str]:
        """The JSON types that are allowed, as far as the schema says so; empty when it does not."""
        return frozenset().union(*map(_types, self._alternatives))

    @property
    def is_text(self) -> bool:
        """Whether the value is written as it is, and not as JSON."""
        return not self.types or "string" in self.types

    @property
    def is_free(self) -> bool:
        """Whether any text is a value."""
        return any(_is_free(one) for one in self._alternatives)

    @property
    def texts(self) -> list[str] | None:
        """How the value may be written where the schema names all that it may be; None where any text will do.

        Values that are neither text nor null are left out: beside text they would be read as text.
        """
        found = [_texts(one) for one in self._alternatives]
        named = [text for texts in found for text in texts or ()]
        return list(dict.fromkeys(named)) if found and None not in found else None


def _alternatives(part: Any, root: Mapping[str, Any], depth: int) -> list[dict[str, Any]]:
    """Schemas of which a value matches one, without references; none where references do not end."""
    if depth == 0:
        return []
    if not isinstance(part, dict):
        return [{}]
    if isinstance(reference := part.get("$ref"), str):
        return _alternatives(resolve(reference, root), root, depth - 1)
    for key in ("anyOf", "oneOf"):
        if isinstance(choices := part.get(key), list):
            shared = {name: value for name, value in part.items() if name != key}
            return [shared | found for one in choices for found in _alternatives(one, root, depth - 1)]
    return [part]


def _values(schema: Mapping[str, Any]) -> list[Any] | None:
    if isinstance(values := schema.get("enum"), list):
        return values
    return [schema["const"]] if "const" in schema else None


def _types(schema: Mapping[str, Any]) -> frozenset[str]:
    kinds = schema.get("type")
    if isinstance(kinds, str):
        return frozenset({kinds})
    if isinstance(kinds, list):
        return frozenset(kind for kind in kinds if isinstance(kind, str))
    values = _values(schema) or ()
    return frozenset("string" if isinstance(value, str) else "null" if value is None else "any" for value in values)


def _is_free(schema: Mapping[str, Any]) -> bool:
    types = _types(schema)
    return schema.keys().isdisjoint(_TEXT_LIMITS) and (not types or "string" in types)


def _texts(schema: Mapping[str, Any]) -> list[str] | None:
    if (values := _values(schema)) is not None:
        return ["null" if value is None else value for value in values if value is None or isinstance(value, str)]
    types = _types(schema)
    if not types or "string" in types:
        return None
    return ["null"] if "null" in types else []
