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
from collections.abc import Mapping
from typing import Any

import msgspec

from ark.chat.tools.call_readers import SPACE, CallReader, Progress
from ark.chat.tools.value_schema import ValueSchema

VALUE_END = "</parameter>"
CALL_END = "</function>"

_PARAMETER = re.compile(r"[ \t\r\n]*<parameter=(?P<key>[^>\n]+)>")
_LITERALS = {"True": True, "False": False, "None": None}


class TaggedReader(CallReader):
    """Reads one call and gives its arguments as JSON, a parameter at a time."""

    def __init__(self, schemas: Mapping[str, Mapping[str, Any]]) -> None:
        """`schemas` are those of the functions' arguments, by name: they say which values are not text."""
        super().__init__()
        self._heads = {f"<function={name}>": name for name in schemas}
        self._schemas = schemas
        self._buffer = ""
        self._count = 0

    def push(self, text: str) -> str:
        if self.progress is Progress.HEAD:
            text = self._read_head(self._heads, text, "")
        self._buffer += text
        parts: list[str] = []
        while self.progress is Progress.ARGUMENTS and (part := self._next()) is not None:
            parts.append(part)
        return "".join(parts)

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
            return f"{begin}{json.dumps(parameter['key'])}: {_json(value, self._schema(parameter['key']))}"
        seen = self._buffer.lstrip(SPACE)
        if CALL_END.startswith(seen) and seen != CALL_END:
            return None
        if "<parameter=".startswith(seen) or (seen.startswith("<parameter=") and ">" not in seen):
            return None
        # The call is over, with its closing tag or without.
        self.text = seen.removeprefix(CALL_END)
        self.progress = Progress.DONE
        return "}" if self._count else "{}"

    def _schema(self, key: str) -> ValueSchema:
        schema = self._schemas[self.name]
        properties = schema.get("properties")
        return ValueSchema(properties.get(key) if isinstance(properties, dict) else None, schema)


def _json(text: str, schema: ValueSchema) -> str:
    """A parameter's value as JSON of the first type that it can be."""
    bare = text.strip()
    if schema.is_text and not ("null" in schema.types and bare == "null"):
        return json.dumps(text, ensure_ascii=False)
    try:
        value = _LITERALS[bare] if bare in _LITERALS else msgspec.json.decode(bare)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        value = text
    return json.dumps(value, ensure_ascii=False)
