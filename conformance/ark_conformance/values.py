"""Placeholders in the values of a call: ``${name}``, and tables with a ``$key``.

``"${name}"`` alone is the named value of any type, inside a text it is its text; ``"${null}"`` is null, which TOML does
not have; ``"$${"`` is ``"${"``. ``{"$repeat" = "word ", times = 500}`` is a long text, ``{"$file" = "tone.wav"}`` an
upload (its first so many ``bytes``, so many ``times``, under another ``name``), ``{"$list" = ..., times = 3}`` a list
of equal values, ``{"$join" = [...]}`` texts one behind the other.
``{"$unset" = true}`` takes a default of the file away.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_WHOLE = re.compile(r"\$\{([a-z0-9_]+)\}")
_INSIDE = re.compile(r"\$\$\{|\$\{([a-z0-9_]+)\}")
_UUID = re.compile(r"uuid_?[a-z0-9]*")


class MissingValue(Exception):
    """A named value is unknown. The message is the reason for a skip."""


class Variables:
    """The named values of one replay. A name that begins with ``uuid`` is a new UUID for each replay."""

    def __init__(self, known: Mapping[str, Any], missing: Mapping[str, str], directory: Path) -> None:
        """`missing` maps unknown names to the reason why they are unknown. `directory` is that of the call file."""
        self._values: dict[str, Any] = {"null": None, **known}
        self._missing = missing
        self._directory = directory

    def save(self, name: str, value: Any) -> None:
        self._values[name] = value

    def find(self, name: str) -> Any:
        """Raises MissingValue, or KeyError for an undefined name."""
        if name not in self._values:
            if name in self._missing:
                raise MissingValue(self._missing[name])
            if not _UUID.fullmatch(name):
                raise KeyError(name)
            self._values[name] = str(uuid.uuid4())
        return self._values[name]

    def fill(self, value: Any) -> Any:
        """The value with its placeholders replaced. Raises MissingValue."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return self._table(value)
        if isinstance(value, (list, tuple)):
            return [self.fill(inner) for inner in value]
        return value

    def pattern(self, text: str) -> str:
        """A regular expression in which named values match literally."""
        return _INSIDE.sub(lambda match: "${" if match[1] is None else re.escape(_as_text(self.find(match[1]))), text)

    def _table(self, value: Mapping[str, Any]) -> Any:
        if "$repeat" in value:
            return self.fill(value["$repeat"]) * int(self.fill(value["times"]))
        if "$join" in value:
            return "".join(str(part) for part in self.fill(value["$join"]))
        if "$list" in value:
            return [self.fill(value["$list"])] * int(self.fill(value["times"]))
        if "$file" in value:
            return self._file(value)
        kept = {key: inner for key, inner in value.items() if inner != {"$unset": True}}
        return {self.fill(key): self.fill(inner) for key, inner in kept.items()}

    def _file(self, value: Mapping[str, Any]) -> tuple[str, bytes]:
        path = self._directory / str(self.fill(value["$file"]))
        data = path.read_bytes()
        return str(value.get("name", path.name)), data[: value.get("bytes")] * int(value.get("times", 1))

    def _text(self, text: str) -> Any:
        if whole := _WHOLE.fullmatch(text):
            return self.find(whole[1])
        return _INSIDE.sub(lambda match: "${" if match[1] is None else _as_text(self.find(match[1])), text)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
