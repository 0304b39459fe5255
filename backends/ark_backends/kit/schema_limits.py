"""What a schema may ask for: beyond it, it compiles, and then fails in the middle of a reply or takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from ark_backends.kit.pattern_cost import pattern_cost
from ark_backends.kit.schema_references import endless, nesting, parts

BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")

MAX_NESTING = 400
"""How deeply schemas may stand in one another once references are followed. llguidance takes up to 7 KB of stack for
each level: a chain of a thousand overflows a thread's usual 8 MB, which ends the process."""

MAX_PATTERN_COST = 2000
"""Places in a pattern where a text may be at once. llguidance gives up from about 5,000 on, and at 2,000 a mask takes
some milliseconds."""

MAX_MULTIPLE = 100_000
"""Largest `multipleOf`, counted in units of its last digit. Each remainder is a state: a million of them take 6 to 30
seconds to compile."""

MAX_CHOICES = 2000
"""Ways to go on at one place of a schema: each takes time in every mask there."""

_OPTIONAL, _OBJECT = 4, 7
"""Ways to go on that an optional property has, and an object with any, as measured."""


def beyond_limits(schema: dict[str, Any]) -> tuple[list[str], str] | None:
    """The path to the first part of a schema that is over a limit, and why in a few words; None where all is well."""
    depth, path_there = nesting(schema)
    if depth > MAX_NESTING:
        return path_there, f"with what it refers to it is nested more than {MAX_NESTING} deep"
    if (path := endless(schema)) is not None:
        return path, "it refers to itself without an end"
    return _beyond(schema)


def _beyond(schema: dict[str, Any]) -> tuple[list[str], str] | None:
    for key, reason in _own(schema):
        return key, reason
    for path, part in parts(schema):
        if isinstance(part, dict) and (inner := _beyond(part)) is not None:
            return path + inner[0], inner[1]
    return None


def _own(schema: dict[str, Any]) -> Iterator[tuple[list[str], str]]:
    for key in BOUNDS:
        # llguidance would take it for the largest number that it knows.
        if (bound := _number(schema.get(key))) is not None and abs(bound) >= 2**63:
            yield [key], "bounds of numbers are within 64 bits"
    if (multiple := _number(schema.get("multipleOf"))) is not None and _units(multiple) > MAX_MULTIPLE:
        yield ["multipleOf"], f"a multiple is at most {MAX_MULTIPLE} units of its last digit"
    patterns: list[tuple[list[str], Any]] = [(["pattern"], schema.get("pattern"))]
    if isinstance(named := schema.get("patternProperties"), dict):
        patterns += [(["patternProperties", pattern], pattern) for pattern in named]
    for path, pattern in patterns:
        if isinstance(pattern, str) and pattern_cost(pattern) > MAX_PATTERN_COST:
            yield path, "the counted repeats in the pattern multiply to too many possibilities"
    if _choices(schema) > MAX_CHOICES:
        most = (MAX_CHOICES - _OBJECT) // _OPTIONAL
        key = next((key for key in ("anyOf", "oneOf") if key in schema), "properties")
        yield [key], f"at one place stand too many alternatives, or more than {most} optional properties"


def _choices(schema: dict[str, Any]) -> int:
    """About how many ways llguidance has to follow at once where this schema's value begins."""
    total = 1
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(properties, dict):
        optional = len(properties.keys() - set(map(str, required if isinstance(required, list) else ())))
        total = _OBJECT + _OPTIONAL * optional if optional else 1
    for key in ("anyOf", "oneOf"):
        if isinstance(alternatives := schema.get(key), list):
            total = max(total, sum(_choices(one) for one in alternatives if isinstance(one, dict)))
    return total


def _number(value: Any) -> int | float | None:
    return value if isinstance(value, int | float) else None


def _units(value: int | float) -> Decimal:
    """A number without its point: 0.25 is 25."""
    number = Decimal(repr(value))
    exponent = number.as_tuple().exponent
    return abs(number.scaleb(-min(0, exponent))) if isinstance(exponent, int) else abs(number)
