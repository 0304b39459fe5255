"""What a schema's references and alternatives come to: whether a value can ever end, and whether only one can match."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import Any

from ark.engines.json_schema import resolve

LISTS = ("anyOf", "oneOf", "allOf")

_JSON_TYPES = frozenset({"string", "number", "boolean", "null", "array", "object"})


def endless(schema: dict[str, Any]) -> list[str] | None:
    """The path to the first reference whose value would never end, as that of a list that holds itself as its first
    item; None where there is none."""
    places = list(_references(schema, []))
    targets = {part["$ref"]: resolve(part["$ref"], schema) for _, part in places}
    waiting: dict[str, list[str]] = defaultdict(list)
    for reference, target in targets.items():
        for needed in {part["$ref"] for _, part in _references(target, [])} if isinstance(target, dict) else ():
            waiting[needed].append(reference)
    ending = set[str]()
    # What is not found ends: it is for others to refuse.
    candidates = deque(targets)
    while candidates:
        reference = candidates.popleft()
        if reference not in ending and _ends(targets[reference], ending):
            ending.add(reference)
            candidates.extend(waiting[reference])
    return next(([*path, "$ref"] for path, part in places if part["$ref"] not in ending), None)


def nesting(schema: dict[str, Any]) -> tuple[int, list[str]]:
    """How deeply schemas stand in one another at most when references are followed, and the path to the reference that
    leads there.

    llguidance follows each reference once, in an order of its own. So where some refer to each other in a circle all
    their depths add up, and elsewhere those of the longest chain do.
    """
    own: dict[str, tuple[int, list[tuple[list[str], str]]]] = {"": _reach(schema)}
    found = [reference for _, reference in own[""][1]]
    while found:
        reference = found.pop()
        if reference not in own:
            own[reference] = _reach(resolve(reference, schema))
            found += [inner for _, inner in own[reference][1]]
    total: dict[str, int] = {}
    for circle in _circles({name: [inner for _, inner in inside] for name, (_, inside) in own.items()}):
        beyond = max((total.get(inner, 0) for name in circle for _, inner in own[name][1]), default=0)
        total.update(dict.fromkeys(circle, sum(own[name][0] for name in circle) + beyond))
    deepest = max(own[""][1], key=lambda place: total[place[1]], default=([], ""))
    return total[""], [*deepest[0], "$ref"] if deepest[1] else []


def _reach(part: Any) -> tuple[int, list[tuple[list[str], str]]]:
    """How deep a schema is by itself, and the references in it with their paths. Definitions count where they are
    referred to."""
    deepest, references = 1, list[tuple[list[str], str]]()
    open_parts: list[tuple[list[str], int, Any]] = [([], 1, part)]
    while open_parts:
        path, depth, one = open_parts.pop()
        if not isinstance(one, dict):
            continue
        deepest = max(deepest, depth)
        if isinstance(reference := one.get("$ref"), str):
            references.append((path, reference))
        for inner, more in parts(one):
            if inner[0] not in ("$defs", "definitions"):
                open_parts.append((path + inner, depth + 1, more))
    return deepest, references


def _circles(following: dict[str, list[str]]) -> Iterator[list[str]]:
    """The groups of names that lead to each other, each behind all that it leads to (Tarjan, 1972)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    for begin, first in following.items():
        if begin in number:
            continue
        visiting = [(begin, iter(first))]
        number[begin] = lowest[begin] = len(number)
        stack.append(begin)
        while visiting:
            name, rest = visiting[-1]
            for other in rest:
                if other not in number:
                    number[other] = lowest[other] = len(number)
                    stack.append(other)
                    visiting.append((other, iter(following[other])))
                    break
                if other in lowest:
                    lowest[name] = min(lowest[name], number[other])
            else:
                visiting.pop()
                if visiting:
                    lowest[visiting[-1][0]] = min(lowest[visiting[-1][0]], lowest[name])
                if lowest[name] == number[name]:
                    place = stack.index(name)
                    circle, stack[place:] = stack[place:], []
                    for one in circle:
                        del lowest[one]
                    yield circle


def exclusive(schema: dict[str, Any]) -> bool:
    """Whether at most one alternative of each ``oneOf`` can match, so that ``anyOf`` would mean the same.

    Alternatives differ by their type, or by a property that has another text in each and that all but one require, as
    the tag of a discriminated union.
    """
    places = list(_unions(schema))
    # One that stands where no part of a schema is known counts against it.
    return len(places) == _count(schema, "oneOf") and all(_differ(place["oneOf"], schema) for place in places)


def parts(schema: dict[str, Any]) -> Iterator[tuple[list[str], Any]]:
    """The schemas directly inside a schema, with their paths."""
    for key in ("properties", "patternProperties", "$defs", "definitions"):
        inner = schema.get(key)
        if isinstance(inner, dict):
            yield from (([key, name], part) for name, part in inner.items())
    for key in (*LISTS, "prefixItems", "items"):
        inner = schema.get(key)
        if isinstance(inner, list):
            yield from (([key, str(i)], part) for i, part in enumerate(inner))
    for key in ("items", "additionalItems", "additionalProperties"):
        yield [key], schema.get(key)


def _references(schema: dict[str, Any], path: list[str]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    if isinstance(schema.get("$ref"), str):
        yield path, schema
    for inner, part in parts(schema):
        if isinstance(part, dict):
            yield from _references(part, path + inner)


def _ends(part: Any, ending: set[str]) -> bool:
    """Whether a value of a part can end when those of the references `ending` can."""
    if not isinstance(part, dict):
        return True
    if isinstance(reference := part.get("$ref"), str) and reference not in ending:
        return False
    for key in ("anyOf", "oneOf"):
        if isinstance(some := part.get(key), list) and some and not any(_ends(one, ending) for one in some):
            return False
    return all(_ends(inner, ending) for inner in _needed(part))


def _needed(part: dict[str, Any]) -> list[Any]:
    """The parts without which no value of a part is whole."""
    needed = [*every] if isinstance(every := part.get("allOf"), list) else []
    properties, required = part.get("properties"), part.get("required")
    if part.get("type") == "object" and isinstance(properties, dict) and isinstance(required, list):
        needed += [properties.get(name) for name in required if isinstance(name, str)]
    if part.get("type") == "array" and isinstance(least := part.get("minItems"), int):
        first = part.get("prefixItems")
        items = first[:least] if isinstance(first, list) else []
        needed += items if len(items) >= least else [*items, part.get("items")]
    return needed


def _unions(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "oneOf" in schema:
        yield schema
    for _, part in parts(schema):
        if isinstance(part, dict):
            yield from _unions(part)


def _count(value: Any, key: str) -> int:
    if isinstance(value, dict):
        return (key in value) + sum(_count(inner, key) for inner in value.values())
    return sum(_count(inner, key) for inner in value) if isinstance(value, list) else 0


def _differ(alternatives: Any, root: dict[str, Any]) -> bool:
    if not isinstance(alternatives, list):
        return False
    resolved = [_resolved(one, root) for one in alternatives]
    if _disjoint([_types(one) for one in resolved]):
        return True
    if not resolved or any(_types(one) != {"object"} for one in resolved):
        return False
    properties = resolved[0].get("properties")
    return any(_is_tag(name, resolved) for name in (properties if isinstance(properties, dict) else ()))


def _resolved(part: Any, root: dict[str, Any]) -> dict[str, Any]:
    """What a reference means, where there is nothing beside it."""
    if isinstance(part, dict) and isinstance(reference := part.get("$ref"), str):
        part = resolve(reference, root)
    return part if isinstance(part, dict) else {}


def _is_tag(name: str, alternatives: Sequence[dict[str, Any]]) -> bool:
    texts: list[set[str]] = []
    missing = 0
    for one in alternatives:
        properties, required = one.get("properties"), one.get("required")
        part = properties.get(name) if isinstance(properties, dict) else None
        values = part.get("enum", [part.get("const")]) if isinstance(part, dict) else []
        if not isinstance(values, list) or not values or not all(isinstance(value, str) for value in values):
            return False
        texts.append(set(values))
        missing += not (isinstance(required, list) and name in required)
    return missing <= 1 and _disjoint(texts)


def _types(part: dict[str, Any]) -> set[str]:
    kinds = part.get("type")
    named = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(named, list) or not all(isinstance(kind, str) for kind in named):
        return set(_JSON_TYPES)
    return {"number" if kind == "integer" else kind for kind in named}


def _disjoint(sets: Sequence[set[str]]) -> bool:
    return sum(map(len, sets)) == len(set().union(*sets))
