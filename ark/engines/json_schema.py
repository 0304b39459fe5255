"""What a JSON schema refers to, and what it leaves open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, NamedTuple
from urllib.parse import unquote

_CHOICES = frozenset({"anyOf", "oneOf", "allOf"})
_GIVEN = frozenset({"enum", "const", "$ref"})
_STRING_LIMITS = _GIVEN | {"maxLength", "pattern", "format"}
_ARRAY_LIMITS = _GIVEN | {"maxItems"}


class Bounds(NamedTuple):
    """Of what a schema does not limit."""

    string_length: int
    array_items: int


def resolve(reference: str, root: Mapping[str, Any]) -> Any:
    """What a ``$ref`` such as ``#/$defs/city`` stands for; None where it leads nowhere, or out of the document."""
    pointer = unquote(reference.removeprefix("#"))
    if not reference.startswith("#") or (pointer and not pointer.startswith("/")):
        return None
    place: Any = root
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(place, list):
            place = place[int(name)] if name.isdecimal() and int(name) < len(place) else None
        else:
            place = place.get(name) if isinstance(place, Mapping) else None
    return place


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which objects have the properties that they list and no others, where the schema does not say.

    Parts that are combined, as by ``allOf``, stay open: each of them would forbid the properties of the others.
    """
    whole = deepcopy(dict(schema))
    combined: set[int] = set()
    parts = list(_parts(whole))
    for part in parts:
        several = part.get("allOf")
        count = sum(key in part for key in ("properties", "$ref", "anyOf", "oneOf"))
        if count + (len(several) if isinstance(several, list) else 0) > 1:
            _leave_open(part, whole, combined)
    for part in parts:
        properties, required = part.get("properties"), part.get("required")
        if id(part) in combined or not isinstance(properties, dict):
            continue
        if not isinstance(required, list) or all(isinstance(name, str) and name in properties for name in required):
            part.setdefault("additionalProperties", False)
    return whole


def bounded(schema: Mapping[str, Any], bounds: Bounds) -> dict[str, Any]:
    """A copy in which strings and arrays that the schema does not limit have an end."""
    whole = deepcopy(dict(schema))
    for part in _parts(whole):
        kinds = part.get("type")
        if kinds is None and not _CHOICES & part.keys():
            # What has no type may be anything, unless it is several others.
            kinds = ["string", "array"]
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if "string" in kinds and not _STRING_LIMITS & part.keys():
            _bound(part, "minLength", "maxLength", bounds.string_length)
        if "array" in kinds and not _ARRAY_LIMITS & part.keys():
            _bound(part, "minItems", "maxItems", bounds.array_items)
    return whole


def _bound(part: dict[str, Any], least: str, most: str, bound: int) -> None:
    lower = part.get(least, 0)
    if isinstance(lower, int) and lower <= bound:
        part[most] = bound


def _parts(schema: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All schemas in a schema."""
    waiting: list[Any] = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            for key in ("properties", "patternProperties", "$defs", "definitions"):
                waiting += inner.values() if isinstance(inner := part.get(key), dict) else ()
            for key in ("items", "prefixItems", "additionalItems", "additionalProperties", "anyOf", "oneOf", "allOf"):
                inner = part.get(key)
                waiting += inner if isinstance(inner, list) else [inner]


def _leave_open(part: Any, root: Mapping[str, Any], combined: set[int]) -> None:
    """Note a part, and what holds for the same value as it. References may lead on without an end."""
    waiting = [part]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, dict) or id(part) in combined:
            continue
        combined.add(id(part))
        if isinstance(reference := part.get("$ref"), str):
            waiting.append(resolve(reference, root))
        for key in ("anyOf", "oneOf", "allOf"):
            waiting += many if isinstance(many := part.get(key), list) else ()
