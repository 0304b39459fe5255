"""Schemas that refer to themselves, and alternatives of which exactly one has to match."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("llguidance")
pytest.importorskip("jsonschema")

import jsonschema
import numpy as np
import torch
from letters import END, START, TOKENS, decode

from ark.chat.grammar import SCHEMA_PARAM, Answer, grammar
from ark.errors import BadRequest
from ark_backends.kit.grammar import Grammars, Matcher
from ark_backends.kit.schema_references import endless, exclusive

GRAMMARS = Grammars(TOKENS, hidden=[START], ends=[END])
CLOSING = [ord(letter) for letter in '"]}']

TEXT = {"type": "object", "properties": {"type": {"const": "text"}, "text": {"type": "string"}}, "required": ["type"]}


def document(**more: Any) -> dict[str, Any]:
    """What pydantic makes of a document of sections, which hold sections."""
    blocks = {"type": "array", "items": {"oneOf": [{"$ref": "#/$defs/Text"}, {"$ref": "#/$defs/Section"}], **more}}
    section = {
        "type": "object",
        "properties": {"type": {"const": "section"}, "body": blocks},
        "required": ["type", "body"],
        "additionalProperties": False,
    }
    return {
        "$defs": {"Text": TEXT, "Section": section},
        "type": "object",
        "properties": {"blocks": blocks},
        "required": ["blocks"],
    }


def compiled(schema: dict[str, Any]) -> Matcher:
    made = grammar(Answer(schema, SCHEMA_PARAM), None, None)
    assert made is not None
    return GRAMMARS.compile(made)


def reply(matcher: Matcher, draw: random.Random) -> str:
    """Random letters that soon close what is open."""
    bits = torch.zeros(1, GRAMMARS.words, dtype=torch.int32)
    ids: list[int] = []
    while not matcher.complete:
        matcher.fill(bits[0])
        allowed = np.flatnonzero(np.unpackbits(bits[0].numpy().view(np.uint8), bitorder="little"))
        letters = [int(i) for i in allowed if i < 256]
        closing = [letter for letter in CLOSING if letter in letters]
        ids.append(draw.choice(closing if closing and draw.random() < 0.3 else letters))
        matcher.consume(ids[-1])
    return decode(ids)


HINT = {"propertyName": "type", "mapping": {"text": "#/$defs/Text", "section": "#/$defs/Section"}}


@pytest.mark.parametrize("schema", [document(), document(discriminator=HINT)])
def test_a_recursive_union_with_a_tag_is_kept_to(schema: dict[str, Any]) -> None:
    whole = compiled(schema)
    texts = [reply(whole.fork(), random.Random(seed)) for seed in range(20)]
    for text in texts:
        jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    assert any('"section"' in text for text in texts)


def test_a_property_may_have_the_name_of_the_hint() -> None:
    schema = {"type": "object", "properties": {"discriminator": {"const": 7}}, "required": ["discriminator"]}
    text = reply(compiled(schema | {"additionalProperties": False}), random.Random(2))
    assert json.loads(text) == {"discriminator": 7}


LOOP: dict[str, Any] = {"$ref": "#/$defs/a"}
DEFINED: dict[str, Any] = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}


@pytest.mark.parametrize(
    ("schema", "part"),
    [
        ({"$ref": "#"}, "$ref"),
        (LOOP | DEFINED, "$ref"),
        ({"type": "object", "properties": {"x": LOOP}} | DEFINED, "properties.x.$ref"),
        ({"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]}, "properties.x.$ref"),
        ({"type": "array", "items": {"$ref": "#"}, "minItems": 1}, "items.$ref"),
        ({"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1}, "prefixItems.0.$ref"),
        ({"allOf": [{"$ref": "#"}, {"type": "null"}]}, "allOf.0.$ref"),
    ],
)
def test_a_value_without_an_end_is_refused_by_its_reference(schema: dict[str, Any], part: str) -> None:
    with pytest.raises(BadRequest) as caught:
        compiled(schema)
    assert (caught.value.param, caught.value.code) == (SCHEMA_PARAM, "invalid_schema")
    assert f"(at {part})" in caught.value.message
    assert "without an end" in caught.value.message


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"x": {"$ref": "#"}}},
        {"type": ["object", "null"], "properties": {"x": {"$ref": "#"}}, "required": ["x"]},
        {"type": "array", "items": {"$ref": "#"}},
        {"type": "object", "properties": {"x": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["x"]},
        {"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}},
        {"$ref": "https://example.org/elsewhere"},
    ],
)
def test_a_value_that_may_end_has_one(schema: dict[str, Any]) -> None:
    assert endless(schema) is None


def tagged(tag: Any, *, required: bool = True, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"t": tag}, "required": ["t"] if required else [], **more}


@pytest.mark.parametrize(
    ("alternatives", "expected"),
    [
        ([tagged({"const": "a"}), tagged({"enum": ["b", "c"]})], True),
        ([tagged({"const": "a"}), tagged({"const": "b"}, required=False)], True),
        ([tagged({"const": "a"}, required=False), tagged({"const": "b"}, required=False)], False),
        ([tagged({"const": "a"}), tagged({"enum": ["a", "b"]})], False),
        ([tagged({"const": 1}), tagged({"const": 1.0})], False),
        ([tagged({"const": "a"}), {"properties": {"t": {"const": "b"}}}], False),
        ([{"type": "string"}, {"type": ["null", "array"]}], True),
        ([{"type": "integer"}, {"type": "number"}], False),
        ([{"type": "string"}, {}], False),
    ],
)
def test_alternatives_exclude_each_other_only_where_it_is_certain(alternatives: list[Any], expected: bool) -> None:
    assert exclusive({"type": "array", "items": {"oneOf": alternatives}}) is expected


def test_a_union_in_an_unknown_place_is_not_certain() -> None:
    assert not exclusive({"not": {"oneOf": [{"type": "string"}, {"type": "null"}]}})
