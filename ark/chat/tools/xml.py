"""Tool calls whose arguments are tags and not JSON, as Qwen3-Coder writes them::

<function=look>
<parameter=city>
Paris
</parameter>
</function>
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from itertools import chain
from typing import Any

import msgspec

from ark.chat.tools.call import Progress

VALUE_END = "</parameter>"
CALL_END = "</function>"

TEXT_LIMITS = frozenset({"pattern", "format", "minLength", "maxLength", "const", "enum", "allOf"})

_PARAMETER = re.compile(r"[ \t\r\n]*<parameter=(?P<key>[^>\n]+)>")
_SPACE = " \t\r\n"
_DEPTH = 8
_LITERALS = {"True": True, "False": False, "None": None}


class TaggedReader:
    """Reads one call and gives its arguments as JSON, a parameter at a time. `ark.chat.tools.call.Reader`."""

    def __init__(self, names: Collection[str], schemas: Mapping[str, Mapping[str, Any]]) -> None:
        """`schemas` are those of the functions' arguments, by name: they say which values are not text."""
        self._heads = {f"<function={name}>": name for name in names}
        self._schemas = schemas
        self._buffer = ""
        self._count = 0
        self.progress = Progress.HEAD
        self.text = ""
        self.name = ""

    def push(self, text: str) -> str:
        """The arguments' text that this piece brings."""
        if self.progress is Progress.HEAD:
            self.text += text
            text = self._head()
        if self.progress is not Progress.ARGUMENTS:
            return ""
        self._buffer += text
        parts: list[str] = []
        while self.progress is Progress.ARGUMENTS and (part := self._next()) is not None:
            parts.append(part)
        return "".join(parts)

    def _head(self) -> str:
        seen = self.text.lstrip(_SPACE)
        for head, name in self._heads.items():
            if seen.startswith(head):
                self.name, self.text = name, ""
                self.progress = Progress.ARGUMENTS
                return seen[len(head) :]
        if not any(head.startswith(seen) for head in self._heads):
            self.progress = Progress.MALFORMED
        return ""

    def _next(self) -> str | None:
        """The next parameter, or the end of the arguments; None when more text is needed."""
        if parameter := _PARAMETER.match(self._buffer):
            end = self._buffer.find(VALUE_END, parameter.end())
            if end < 0:
                return None
            value = self._buffer[parameter.end() : end].removeprefix("\n").removesuffix("\n")
            self._buffer = self._buffer[end + len(VALUE_END) :]
            begin = ", " if self._count else "{"
            self._count += 1
            return f"{begin}{json.dumps(parameter['key'])}: {_json(value, self._types(parameter['key']))}"
        seen = self._buffer.lstrip(_SPACE)
        if CALL_END.startswith(seen) and seen != CALL_END:
            return None
        if "<parameter=".startswith(seen) or (seen.startswith("<parameter=") and ">" not in seen):
            return None
        # Without its closing tag the call is over all the same.
        self.text = seen.removeprefix(CALL_END)
        self.progress = Progress.DONE
        return "}" if self._count else "{}"

    def _types(self, key: str) -> frozenset[str]:
        schema = self._schemas.get(self.name, {})
        properties = schema.get("properties")
        return json_types(properties.get(key) if isinstance(properties, dict) else None, schema)


def json_types(part: Any, root: Mapping[str, Any], depth: int = _DEPTH) -> frozenset[str]:
    """The JSON types that a part of a schema allows, as far as it says so; empty when it does not."""
    if not isinstance(part, dict) or depth == 0:
        return frozenset()
    if isinstance(reference := part.get("$ref"), str):
        return json_types(_find(reference, root), root, depth - 1)
    kinds = part.get("type")
    if isinstance(kinds, str):
        return frozenset({kinds})
    if isinstance(kinds, list):
        return frozenset(kind for kind in kinds if isinstance(kind, str))
    values = part["enum"] if isinstance(part.get("enum"), list) else [part["const"]] if "const" in part else []
    if values:
        return frozenset("string" if isinstance(value, str) else "null" if value is None else "any" for value in values)
    found = frozenset[str]()
    for key in ("anyOf", "oneOf"):
        for one in part[key] if isinstance(part.get(key), list) else ():
            found |= json_types(one, root, depth - 1)
    return found


def is_text(types: Collection[str]) -> bool:
    """Whether a value of these types is written as it is, and not as JSON."""
    return not types or "string" in types


def texts(part: Any, root: Mapping[str, Any], depth: int = _DEPTH) -> list[str] | None:
    """How a value of text may be written where its schema names all that it may be; None where any text will do.

    Values that are neither text nor null are left out: beside text they would be read as text.
    """
    if not isinstance(part, dict) or depth == 0:
        return None
    if isinstance(reference := part.get("$ref"), str):
        return texts(_find(reference, root), root, depth - 1)
    values = part["enum"] if isinstance(part.get("enum"), list) else [part["const"]] if "const" in part else None
    if values is not None:
        return ["null" if value is None else value for value in values if value is None or isinstance(value, str)]
    for key in ("anyOf", "oneOf"):
        if isinstance(part.get(key), list):
            found = [texts(one, root, depth - 1) for one in part[key]]
            named = [one for one in found if one is not None]
            return list(dict.fromkeys(chain.from_iterable(named))) if len(named) == len(found) else None
    types = json_types(part, root)
    if is_text(types):
        return None
    return ["null"] if "null" in types else []


def is_free(part: Any, root: Mapping[str, Any], depth: int = _DEPTH) -> bool:
    """Whether any text is a value of a part of a schema."""
    if not isinstance(part, dict):
        return True
    if depth == 0 or not part.keys().isdisjoint(TEXT_LIMITS):
        return False
    if isinstance(reference := part.get("$ref"), str):
        return is_free(_find(reference, root), root, depth - 1)
    for key in ("anyOf", "oneOf"):
        if isinstance(part.get(key), list):
            return any(is_free(one, root, depth - 1) for one in part[key])
    return is_text(json_types(part, root))


def _find(reference: str, root: Mapping[str, Any]) -> Any:
    part: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        part = part.get(step) if isinstance(part, Mapping) else None
    return part


def _json(text: str, types: frozenset[str]) -> str:
    """A parameter's value as JSON of the first type that it can be."""
    if is_text(types) and not ("null" in types and text.strip() == "null"):
        return json.dumps(text, ensure_ascii=False)
    bare = text.strip()
    try:
        value = _LITERALS[bare] if bare in _LITERALS else msgspec.json.decode(bare)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        value = text
    return json.dumps(value, ensure_ascii=False)
