"""Paths into a reply: ``reply.choices[0].message.content``, ``stream.chunks[*].id``, or ``$`` for the whole."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

Part = str | int | None
"""A key, an index, or None for every element."""

_PART = re.compile(r"(?:^|\.)([^.\[\]]+)|\[(\*|-?\d+)\]")


class PathError(Exception):
    """The text is not a path."""


@lru_cache(maxsize=4096)
def parse_path(path: str) -> tuple[Part, ...]:
    """Raises PathError."""
    if path == "$":
        return ()
    parts: list[Part] = []
    end = 0
    while end < len(path):
        match = _PART.match(path, end)
        if match is None or match.end() == end:
            raise PathError(f"{path!r} is not a path")
        key, index = match.groups()
        parts.append(key if key is not None else None if index == "*" else int(index))
        end = match.end()
    if not parts:
        raise PathError("the path is empty")
    return tuple(parts)


def select(value: Any, path: str) -> list[Any]:
    """Every value that the path leads to, in order, possibly none. Raises PathError."""
    found = [value]
    for part in parse_path(path):
        found = [inner for outer in found for inner in _step(outer, part)]
    return found


def _step(value: Any, part: Part) -> list[Any]:
    if part is None:
        return list(value) if isinstance(value, list) else []
    if isinstance(part, int):
        return [value[part]] if isinstance(value, list) and -len(value) <= part < len(value) else []
    return [value[part]] if isinstance(value, dict) and part in value else []
