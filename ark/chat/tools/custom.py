"""Custom tools: their input is text. To the model each is a function with one argument, the text."""

from __future__ import annotations

import json
import re
from typing import Any

INPUT = "input"
"""The argument's name."""

_HEAD = re.compile(r'\s*\{\s*"' + INPUT + r'"\s*:\s*"')
_BODY = re.compile(
    r'(?:[^"\\]|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\[^u])*', re.DOTALL
)
"""Whole characters of a JSON string."""


def input_schema(pattern: str | None = None) -> dict[str, Any]:
    """The schema of the arguments; `pattern` is a regular expression of the whole text."""
    text: dict[str, Any] = {"type": "string"}
    if pattern is not None:
        text["pattern"] = f"^(?:{pattern})$"
    return {"type": "object", "properties": {INPUT: text}, "required": [INPUT], "additionalProperties": False}


class InputReader:
    """Reads the text out of the arguments' JSON as it comes."""

    def __init__(self) -> None:
        self._buffer = ""
        self._inside = False

    def push(self, arguments: str) -> str:
        """The text that is decided with these further arguments."""
        self._buffer += arguments
        if not self._inside:
            head = _HEAD.match(self._buffer)
            if head is None:
                return ""
            self._inside, self._buffer = True, self._buffer[head.end() :]
        body = _BODY.match(self._buffer)
        if body is None or not body[0]:
            return ""
        self._buffer = self._buffer[body.end() :]
        text: str = json.loads(f'"{body[0]}"', strict=False)
        return text
