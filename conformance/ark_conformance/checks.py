"""Check a reply against what a call expects of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec import UNSET

from ark_conformance.expectations import Check, Fault, Profile
from ark_conformance.paths import select
from ark_conformance.values import Variables

SHOWN = 300
"""The most characters of a value that a message shows."""


def problems(checks: Iterable[Check], seen: Any, profile: Profile, variables: Variables) -> list[str]:
    """One sentence for each check that fails on the values in `seen`."""
    found: list[str] = []
    for check in checks:
        wanted = (check.profile,) if isinstance(check.profile, str) else check.profile
        if wanted is None or profile in wanted:
            found += _Evaluation(check, seen, profile, variables).problems()
    return found


def fault_problems(fault: Fault, error: dict[str, Any], variables: Variables) -> list[str]:
    """One sentence for each field of an error that is not as expected."""
    found = []
    names = {"status": fault.status, "class": fault.kind, "type": fault.type, "code": fault.code, "param": fault.param}
    for name, wanted in names.items():
        if wanted is None:
            continue
        allowed = [variables.fill(one) for one in (wanted if isinstance(wanted, tuple) else (wanted,))]
        if error.get(name) not in allowed:
            found.append(f"error.{name} is {show(error.get(name))}, not {' or '.join(show(one) for one in allowed)}")
    if fault.message is not None and not re.search(pattern := variables.pattern(fault.message), error["message"]):
        found.append(f"error.message does not match {pattern!r}: {show(error['message'])}")
    return found


def show(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except TypeError:
        text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"


class _Evaluation:
    """One check, applied to the values that its path selects."""

    def __init__(self, check: Check, seen: Any, profile: Profile, variables: Variables) -> None:
        self._check = check
        self._seen = seen
        self._profile = profile
        self._variables = variables
        self._found: list[str] = []

    def problems(self) -> list[str]:
        check = self._check
        selected = select(self._seen, check.at)
        if check.present is False:
            return [f"{check.at} is there: {show(selected[0])}"] if selected else []
        if check.count is not None or check.values is not None:
            self._together(selected)
        elif not selected:
            return [f"{check.at} is not there"]
        else:
            self._together(selected)
        for value in selected:
            self._value(value)
        return self._found

    def _fail(self, text: str) -> None:
        self._found.append(f"{self._check.at} {text}")

    def _expected(self, value: Any) -> Any:
        return self._variables.fill(value)

    def _together(self, selected: Sequence[Any]) -> None:
        check = self._check
        if check.count is not None and len(selected) != (count := int(self._expected(check.count))):
            self._fail(f"selects {len(selected)} values, not {count}")
        if check.values is not None and list(selected) != (wanted := self._expected(list(check.values))):
            self._fail(f"are {show(list(selected))}, not {show(wanted)}")
        if check.all_same and any(value != selected[0] for value in selected):
            self._fail(f"are not all the same: {show(list(selected))}")
        if check.distinct and len({show(value) for value in selected}) < len(selected):
            self._fail(f"are not all different: {show(list(selected))}")
        if check.sorted is not None:
            try:
                right = sorted(selected, reverse=check.sorted == "descending")
            except TypeError:
                right = []
            if list(selected) != right:
                self._fail(f"are not {check.sorted}: {show(list(selected))}")

    def _value(self, value: Any) -> None:
        check = self._check
        if check.equals is not UNSET and not same(value, wanted := self._expected(check.equals)):
            self._fail(f"is {show(value)}, not {show(wanted)}")
        if check.not_equals is not UNSET and same(value, wanted := self._expected(check.not_equals)):
            self._fail(f"is {show(wanted)}")
        if check.one_of is not None:
            allowed = [self._expected(one) for one in check.one_of]
            if not any(same(value, one) for one in allowed):
                self._fail(f"is {show(value)}, which is none of {show(allowed)}")
        if check.type is not None:
            names = (check.type,) if isinstance(check.type, str) else check.type
            if not any(_TYPES[name](value) for name in names):
                self._fail(f"is {show(value)}, not of type {' or '.join(names)}")
        if check.same_as is not None:
            other = select(self._seen, check.same_as)
            if len(other) != 1 or not same(value, other[0]):
                self._fail(f"is {show(value)}, but {check.same_as} is {show(other[0]) if other else 'not there'}")
        self._parts(value)
        self._sizes(value)
        self._numbers(value)
        self._inner(value)

    def _parts(self, value: Any) -> None:
        check = self._check
        if check.matches is not None:
            pattern = self._variables.pattern(check.matches)
            if not (isinstance(value, str) and re.search(pattern, value, re.DOTALL)):
                self._fail(f"does not match {pattern!r}: {show(value)}")
        if check.contains is not UNSET and not _contains(value, wanted := self._expected(check.contains)):
            self._fail(f"does not contain {show(wanted)}: {show(value)}")
        if check.lacks is not UNSET and _contains(value, unwanted := self._expected(check.lacks)):
            self._fail(f"contains {show(unwanted)}: {show(value)}")
        if check.keys is not None and (not isinstance(value, dict) or set(value) != set(check.keys)):
            has = sorted(value) if isinstance(value, dict) else show(value)
            self._fail(f"has the keys {has}, not {sorted(check.keys)}")

    def _sizes(self, value: Any) -> None:
        check = self._check
        wanted = (check.length, check.min_length, check.max_length)
        if wanted == (None, None, None):
            return
        if not isinstance(value, (str, list, dict)):
            self._fail(f"has no length: {show(value)}")
            return
        size = len(value)
        if check.length is not None and size != (length := int(self._expected(check.length))):
            self._fail(f"has the length {size}, not {length}: {show(value)}")
        if check.min_length is not None and size < check.min_length:
            self._fail(f"has the length {size}, less than {check.min_length}: {show(value)}")
        if check.max_length is not None and size > check.max_length:
            self._fail(f"has the length {size}, more than {check.max_length}: {show(value)}")

    def _numbers(self, value: Any) -> None:
        check = self._check
        if check.min is not None and not (_is_number(value) and value >= float(self._expected(check.min))):
            self._fail(f"is {show(value)}, less than {self._expected(check.min)}")
        if check.max is not None and not (_is_number(value) and value <= float(self._expected(check.max))):
            self._fail(f"is {show(value)}, more than {self._expected(check.max)}")
        if check.sum_of is not None:
            parts = [part for path in check.sum_of for part in select(self._seen, path)]
            if not all(_is_number(part) for part in parts) or not _is_number(value) or value != sum(parts):
                self._fail(f"is {show(value)}, not the sum of {' and '.join(check.sum_of)}, which are {show(parts)}")
        if check.close_to is not UNSET and not close(value, wanted := self._expected(check.close_to), check.within):
            self._fail(f"is {show(value)}, not within {check.within} of {show(wanted)}")
        if check.norm is not None:
            length = math.hypot(*value) if _is_vector(value) else math.nan
            if not abs(length - check.norm) <= check.within:
                self._fail(f"is a vector of length {length}, not {check.norm}")
        if check.cosine is not None:
            self._cosine(value)

    def _cosine(self, value: Any) -> None:
        wanted = self._check.cosine
        if wanted is None:
            return

        def to(path: str) -> float:
            other = select(self._seen, path)
            return cosine(value, other[0]) if other else math.nan

        found = to(wanted.to)
        if not wanted.min <= found <= wanted.max:
            self._fail(f"has the cosine {found:.4f} with {wanted.to}, not {wanted.min} to {wanted.max}")
        if wanted.over is not None and not found > (other := to(wanted.over)):
            self._fail(f"has the cosine {found:.4f} with {wanted.to}, not over the {other:.4f} with {wanted.over}")

    def _inner(self, value: Any) -> None:
        check = self._check
        if check.json is not None:
            try:
                inner = json.loads(value)
            except (TypeError, ValueError):
                self._fail(f"is not JSON: {show(value)}")
            else:
                found = problems(check.json, inner, self._profile, self._variables)
                self._found += [f"the JSON in {check.at}: {problem}" for problem in found]
        if check.each is not None:
            found = problems(check.each, value, self._profile, self._variables)
            self._found += [f"{check.at}: {problem}" for problem in found]


def same(value: Any, other: Any) -> bool:
    """Compare as JSON values: true does not equal 1."""
    if isinstance(value, bool) is not isinstance(other, bool):
        return False
    return bool(value == other)


def close(value: Any, other: Any, within: float) -> bool:
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(close(one, two, within) for one, two in zip(value, other, strict=True))
    return _is_number(value) and _is_number(other) and abs(value - other) <= within


def cosine(one: Any, two: Any) -> float:
    """NaN unless both are vectors of the same size."""
    if not (_is_vector(one) and _is_vector(two)) or len(one) != len(two):
        return math.nan
    lengths = math.hypot(*one) * math.hypot(*two)
    return sum(a * b for a, b in zip(one, two, strict=True)) / lengths if lengths else math.nan


def _contains(value: Any, part: Any) -> bool:
    if isinstance(value, str):
        return isinstance(part, str) and part in value
    return isinstance(value, (list, dict)) and part in value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_vector(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_number(one) for one in value)


_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": _is_number,
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "null": lambda value: value is None,
}
