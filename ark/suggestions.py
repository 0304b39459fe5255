"""Explain a mistake in a configuration: its place and reason, which msgspec gives, and a suggestion from the types."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches

import msgspec
from msgspec import inspect

_MESSAGE = re.compile(r"(?P<reason>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_STEP = re.compile(r"\.?([^.\[\]]+)|\[[^\]]*\]")


def explain(error: msgspec.ValidationError, kind: type) -> str:
    """``: field: reason; suggestion``, for an error of converting a value to `kind`."""
    match = _MESSAGE.fullmatch(str(error))
    if match is None:
        return f": {error}"
    reason, path = match["reason"], match["path"] or ""
    text = _with_suggestion(reason, list(_types_at(inspect.type_info(kind), path)), path, kind)
    return f": {path}: {text}" if path else f": {text}"


def _with_suggestion(reason: str, allowed: list[inspect.Type], path: str, kind: type) -> str:
    if unknown := _UNKNOWN.fullmatch(reason):
        fields = [name for one in allowed for name in _fields(one)]
        return f"{reason}; {_suggest_field(unknown[1], fields, kind)}"
    if reason.startswith("Invalid enum value"):
        values = sorted(repr(value) for one in allowed if isinstance(one, inspect.LiteralType) for value in one.values)
        return f"{reason}; it is one of {', '.join(values)}"
    if "matching regex" in reason:
        texts = [text for one in allowed if (text := _description(one))]
        return f"Expected {' or '.join(texts)}" if texts else reason
    if reason == "Expected `array`, got `object`" and path.isidentifier():
        return f"{reason}; such a table has two brackets, [[{path}]]"
    return reason


def _suggest_field(unknown: str, fields: list[str], kind: type) -> str:
    """A field of a similar name, else the table that has this one, else all fields."""
    close = get_close_matches(unknown, fields, 1)
    if close:
        return f"did you mean {close[0]}?"
    tables = [table for table, inner in _tables(inspect.type_info(kind)) if unknown in _fields(inner)]
    if tables:
        return f"it is a field of {' and of '.join(tables)}"
    return f"there are {', '.join(fields)}"


def _tables(info: inspect.Type, path: str = "") -> Iterator[tuple[str, inspect.StructType]]:
    """Each table below a type, with its header in TOML: ``[server]``, ``[[models]]``, ``[models.sampling]``."""
    for name, field in _fields(info).items():
        inner = f"{path}.{name}".removeprefix(".")
        for one in _alternatives(field):
            if isinstance(one, inspect.StructType):
                yield f"[{inner}]", one
                yield from _tables(one, inner)
            elif isinstance(one, inspect.VarTupleType) and isinstance(one.item_type, inspect.StructType):
                yield f"[[{inner}]]", one.item_type
                yield from _tables(one.item_type, inner)


def _types_at(info: inspect.Type, path: str) -> Iterator[inspect.Type]:
    """The types that a value at a path may have, such as ``models[0].task``."""
    step = _STEP.match(path)
    for one in _alternatives(info):
        if step is None:
            yield one
        elif step[1] in _fields(one):
            yield from _types_at(_fields(one)[step[1]], path[step.end() :])
        elif step[1] is None and isinstance(one, inspect.VarTupleType):
            yield from _types_at(one.item_type, path[step.end() :])


def _alternatives(info: inspect.Type) -> Iterator[inspect.Type]:
    """A type, or each of a union of types."""
    match info:
        case inspect.UnionType():
            for one in info.types:
                yield from _alternatives(one)
        case _:
            yield info


def _fields(info: inspect.Type) -> dict[str, inspect.Type]:
    return {field.encode_name: field.type for field in info.fields} if isinstance(info, inspect.StructType) else {}


def _description(info: inspect.Type) -> str | None:
    schema = info.extra_json_schema if isinstance(info, inspect.Metadata) else None
    return None if schema is None else schema.get("description")
