"""Schemas that compile and would then fail in the middle of a reply, or keep a processor busy for long."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("llguidance")

import numpy as np
import torch
from letters import END, LONG, START, TAGS, TOKENS, decode

from ark.chat.grammar import SCHEMA_PARAM, Answer, grammar
from ark.engines.chat import Grammar
from ark.errors import BadRequest
from ark_backends.kit.grammar import Grammars, Matcher
from ark_backends.kit.pattern_cost import pattern_cost

GRAMMARS = Grammars(TOKENS, hidden=[START], ends=[END])
QUOTE = ord('"')


def of(schema: dict[str, Any]) -> Grammar:
    made = grammar(Answer(schema, SCHEMA_PARAM), None, None)
    assert made is not None
    return made


def longest(matcher: Matcher, draw: random.Random, limit: int) -> list[int]:
    """A reply that goes on as long as it may, up to a limit, and then as shortly as it may."""
    bits = torch.zeros(1, GRAMMARS.words, dtype=torch.int32)
    ids: list[int] = []
    while not matcher.complete:
        matcher.fill(bits[0])
        allowed = np.flatnonzero(np.unpackbits(bits[0].numpy().view(np.uint8), bitorder="little"))
        letters = [int(i) for i in allowed if i < 256 + len(TAGS) + len(LONG) and i != QUOTE]
        closing = [QUOTE] if QUOTE in allowed and (len(ids) >= limit or not letters) else []
        ids.append(draw.choice(closing or letters))
        matcher.consume(ids[-1])
    return ids


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Expressions around others, with counted repeats."""

    def repeat(part: str, low: int, more: int) -> str:
        return f"({part}){{{low},{low + more}}}"

    counts = st.integers(0, 3), st.integers(0, 80)
    return st.one_of(
        st.builds(repeat, inner, *counts),
        st.builds(lambda one, other: f"{one} ?{other}", inner, inner),
        st.builds(lambda one, other: f"({one}|{other})", inner, inner),
        st.builds(lambda one: f"({one})*", inner),
    )


PATTERNS = st.recursive(st.sampled_from(["[a-z]", "[0-9a-c]", "a", "ab?", r"\d{1,40}", "[a-z]{1,60}"]), nested)


@settings(max_examples=40, deadline=None)
@given(PATTERNS, st.integers(0, 1000))
@example("([a-z]{1,100} ?){1,100}", 0)
@example("([a-z]{1,10}){1,1000}", 0)
def test_a_pattern_is_refused_at_the_door_or_kept_to_to_the_end(pattern: str, seed: int) -> None:
    pattern = f"^{pattern}$"
    try:
        matcher = GRAMMARS.compile(of({"type": "string", "pattern": pattern}))
    except BadRequest:
        return
    text = json.loads(decode(longest(matcher, random.Random(seed), 400)))
    # Python's own matcher goes through all ways to divide the text, one after the other.
    if pattern_cost(pattern) < 10:
        assert re.fullmatch(pattern, text)


BOMB = "(([a-z]{1,100}){1,100}){1,100}"
OPTIONAL = {f"p{i}": {"type": "string"} for i in range(600)}


@pytest.mark.parametrize(
    ("schema", "part"),
    [
        ({"type": "string", "pattern": BOMB}, "pattern"),
        ({"type": "array", "items": {"type": "string", "pattern": f"^{BOMB}$"}}, "items.pattern"),
        ({"properties": {"a": {"anyOf": [{"pattern": BOMB}]}}}, "properties.a.anyOf.0.pattern"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string", "pattern": BOMB}}}, "$defs.a.pattern"),
        ({"type": "object", "patternProperties": {BOMB: {"type": "null"}}}, f"patternProperties.{BOMB}"),
        ({"type": "object", "properties": OPTIONAL}, "properties"),
        ({"items": {"anyOf": [{"type": "object", "properties": {"a": {}}} for _ in range(300)]}}, "items.anyOf"),
        ({"type": "integer", "multipleOf": 1_000_003}, "multipleOf"),
        ({"type": "number", "multipleOf": 12.345678}, "multipleOf"),
    ],
)
def test_what_would_fail_later_is_refused_by_its_part(schema: dict[str, Any], part: str) -> None:
    with pytest.raises(BadRequest) as caught:
        GRAMMARS.compile(of(schema))
    assert (caught.value.param, caught.value.code) == (SCHEMA_PARAM, "invalid_schema")
    assert f"(at {part})" in caught.value.message


def branching(ways: int, depth: int) -> dict[str, Any]:
    """Alternatives that begin alike, each with optional properties, inside one another."""
    if not depth:
        return {"type": "object", "properties": {f"k{i}": {"type": "string"} for i in range(8)}}
    inner = branching(ways, depth - 1)
    properties = [{"a": inner, f"b{i}": {"type": "integer"}} for i in range(ways)]
    return {"anyOf": [{"type": "object", "properties": one} for one in properties]}


@pytest.mark.parametrize(("ways", "depth"), [(8, 2), (5, 3), (20, 2), (7, 3)])
def test_alternatives_that_add_up_deep_inside_are_kept_to(ways: int, depth: int) -> None:
    matcher = GRAMMARS.compile(of(branching(ways, depth)))
    bits = torch.zeros(1, GRAMMARS.words, dtype=torch.int32)
    for letter in ('{"a":' * depth + '{"k0":"x"' + "}" * (depth + 1)).encode():
        matcher.fill(bits[0])
        matcher.consume(letter)
    assert matcher.complete


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[a-zA-Z0-9._%+-]{1,64}@(?:[a-zA-Z0-9-]{1,63}\.){1,8}[a-zA-Z]{2,63}$",
        r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$",
        "^([A-Za-z0-9+/]{4}){0,10000}={0,2}$",
        "^.{1,100000}$",
        r"^\+?[1-9]\d{1,14}$",
        "^([a-z]+ ){1,500}$",
        r"^(\d{1,3}\.){3}\d{1,3}$",
        r"^\p{L}{1,300}$",
    ],
)
def test_what_people_write_is_kept_to(pattern: str) -> None:
    matcher = GRAMMARS.compile(of({"type": "string", "pattern": pattern}))
    assert json.loads(decode(longest(matcher, random.Random(1), 200)))


@pytest.mark.parametrize(
    ("pattern", "cost"),
    [
        ("abc", 3),
        ("^[a-z]{1,100}$", 1),
        ("[a-z]{1,100}", 101),
        ("^([a-z]{1,99}){1,100}$", 10_000),
        ("^(a|b{1,9}){2}$", 22),
        (r"^\(x{1,5}\)[(]{1,7}$", 9),
        ("(?:x{1,4}?)*", 5),
        ("(?<n>x){3,}", 4),
        ("x{,3}", 5),
        ("^(a{1,9}){99999999999}$", 10**9),
        ("(" * 5000, 0),
    ],
)
def test_cost(pattern: str, cost: int) -> None:
    assert pattern_cost(pattern) == cost
