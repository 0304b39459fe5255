"""Masks of grammars over a vocabulary, and what they let a reply be."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("llguidance")

import torch
from letters import END, LONG, OTHER_END, PADDING, START, TAGS, TOKENS, decode, encode

from ark.chat.grammar import SCHEMA_PARAM, Answer, grammar
from ark.chat.tools.formats import LLAMA
from ark.chat.tools.toolbox import Tool, Toolbox
from ark.engines.chat import Grammar
from ark.errors import BadRequest
from ark_backends.kit.grammar import GrammarFailed, Grammars, Matcher
from ark_backends.kit.masks import apply_masks, fill_masks

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(TOKENS, hidden=[START], ends=[END, OTHER_END])


def of(schema: dict[str, Any], param: str = SCHEMA_PARAM) -> Grammar:
    made = grammar(Answer(schema, param), None, None)
    assert made is not None
    return made


def allowed(grammars: Grammars, matcher: Matcher) -> set[int]:
    bits = torch.zeros(1, grammars.words, dtype=torch.int32)
    matcher.fill(bits[0])
    logits = apply_masks(torch.zeros(1, len(TOKENS)), bits, [0])
    return {i for i, value in enumerate(logits[0].tolist()) if value == 0.0}


def feed(matcher: Matcher, text: str) -> None:
    for token in encode(text):
        matcher.consume(token)


def test_the_end_is_allowed_when_the_reply_is_complete_and_not_before(grammars: Grammars) -> None:
    matcher = grammars.compile(of(PERSON))
    for token in encode('{"name": "Ada", "age": 36'):
        assert not {END, OTHER_END} & allowed(grammars, matcher)
        matcher.consume(token)
    assert not matcher.complete
    feed(matcher, "}")
    assert matcher.complete
    assert allowed(grammars, matcher) == {END, OTHER_END}


def test_special_tokens_and_padding_are_never_allowed(grammars: Grammars) -> None:
    matcher = grammars.compile(of({"type": "string"}))
    feed(matcher, '"')
    choices = allowed(grammars, matcher)
    assert not {START, END, OTHER_END, PADDING} & choices
    assert 256 + len(TAGS) + LONG.index(" the") in choices
    assert 256 + TAGS.index("<tool_call>") in choices, "a tag is text where text may stand"


def test_every_token_that_fits_is_allowed_where_the_text_is_forced(grammars: Grammars) -> None:
    """A model writes what it has learned, and not what a tokenizer makes of the forced part alone."""
    matcher = grammars.compile(of({"const": "in the end"}))
    feed(matcher, '"in')
    long = 256 + len(TAGS) + LONG.index(" the")
    assert allowed(grammars, matcher) == {long, ord(" ")}
    matcher.consume(long)
    feed(matcher, ' end"')
    assert matcher.complete


def test_a_fork_goes_its_own_way(grammars: Grammars) -> None:
    matcher = grammars.compile(of(PERSON))
    feed(matcher, '{"name": "')
    other = matcher.fork()
    feed(matcher, 'Ada", "age": 3}')
    assert matcher.complete
    assert not other.complete
    feed(other, 'Bob", "age": 4}')
    assert other.complete


def test_masks_of_a_batch() -> None:
    grammars = Grammars(TOKENS, hidden=[START], ends=[END])
    one, two = grammars.compile(of({"type": "boolean"})), grammars.compile(of({"type": "null"}))
    filled = fill_masks([one, None, two])
    assert filled is not None
    bits, failed = filled
    assert failed == []
    # Two more ids than the vocabulary has, as models pad theirs.
    logits = torch.zeros(3, len(TOKENS) + 2, dtype=torch.bfloat16)
    masked = apply_masks(logits, bits, [0, 2])
    letters = [{i for i, value in enumerate(row.tolist()) if value == 0.0} for row in masked]
    assert letters[0] == {ord(letter) for letter in "tf "}
    assert len(letters[1]) == len(TOKENS) + 2, "a row without a grammar is as it was"
    assert letters[2] == {ord("n"), ord(" ")}
    assert logits.sum() == 0.0, "the logits themselves are not touched"
    assert fill_masks([None, None]) is None


@pytest.mark.parametrize(
    ("schema", "part"),
    [
        ({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}, "properties.a"),
        ({"type": "object", "properties": {"a": {"items": {"not": {}}}}}, "properties.a.items"),
        ({"anyOf": [{"type": "null"}, {"type": "string", "format": "colour"}]}, "anyOf.1"),
        ({"type": "array", "items": {"type": "string", "pattern": "(?=a)"}}, "items"),
        ({"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 3, "maximum": 1}}, ""),
        ({"type": "shape"}, ""),
        ({"properties": {"a": {"items": {"type": "integer", "minimum": 10**30}}}}, "properties.a.items.minimum"),
        ({"$ref": "#/$defs/none"}, ""),
        ({"$ref": "https://example.com/schema.json"}, ""),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"contains": {}}}}, "$defs.a"),
    ],
)
def test_a_schema_that_cannot_be_enforced_is_refused_by_its_part(
    grammars: Grammars, schema: dict[str, Any], part: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        grammars.compile(of(schema))
    assert caught.value.param == SCHEMA_PARAM
    assert caught.value.code == "invalid_schema"
    assert f"(at {part})" in caught.value.message or not part
    assert "%json" not in caught.value.message


def of_tool(parameters: dict[str, Any], *, strict: bool) -> Grammar:
    """A call of the only tool, and nothing else."""
    tool = Tool(name="f", parameters=parameters, strict=strict, param="tools[0].function.parameters")
    made = grammar(None, Toolbox(tools=(tool,), callable=(tool,), required=True, parallel=False), LLAMA)
    assert made is not None
    return made


def test_what_cannot_be_enforced_of_a_tools_schema_is_left_out_unless_it_is_strict(grammars: Grammars) -> None:
    # Pydantic writes this pattern for a decimal number.
    price = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}]}
    properties = {"price": price, "count": {"type": "integer"}, "at": {"$ref": "https://example.com/at.json"}}
    parameters = {"type": "object", "properties": properties, "required": ["price", "count"]}
    start = '{"name": "f", "parameters": '
    matcher = grammars.compile(of_tool(parameters, strict=False))
    feed(matcher, start + '{"price": "1.5", "count": 2, "at": [1]}}')
    assert matcher.complete
    for wrong in ('{"price": [', '{"price": 1, "count": "', '{"count'):
        with pytest.raises(GrammarFailed):
            feed(grammars.compile(of_tool(parameters, strict=False)), start + wrong)
    for refused in (of_tool(parameters, strict=True), of_tool({"properties": [], "type": "object"}, strict=False)):
        with pytest.raises(BadRequest) as caught:
            grammars.compile(refused)
        assert (caught.value.param, caught.value.code) == ("tools[0].function.parameters", "invalid_schema")


def test_a_schema_that_is_too_large_is_refused(grammars: Grammars) -> None:
    with pytest.raises(BadRequest, match="too large"):
        grammars.compile(of({"enum": [f"value {i}" for i in range(20_000)]}))


def test_a_deep_schema_is_refused_and_does_no_harm(grammars: Grammars) -> None:
    schema: dict[str, Any] = {}
    for _ in range(300):
        schema = {"type": "object", "properties": {"a": schema}}
    with pytest.raises(BadRequest):
        grammars.compile(of(schema))


def test_a_vocabulary_without_an_end() -> None:
    grammars = Grammars(TOKENS, hidden=[START, END, OTHER_END], ends=[])
    matcher = grammars.compile(of({"type": "null"}))
    feed(matcher, "null")
    assert matcher.complete


def test_random_walks_end_in_valid_replies(grammars: Grammars) -> None:
    draw = random.Random(3)
    for _ in range(20):
        matcher, ids = grammars.compile(of(PERSON)), []
        while not matcher.complete and len(ids) < 2000:
            # Quotes and brackets are preferred, or strings would never end.
            choices = sorted(allowed(grammars, matcher))
            short = [i for i in choices if i < 256 and chr(i) in '"},0123']
            ids.append(draw.choice(short if short and draw.random() < 0.5 else choices))
            matcher.consume(ids[-1])
        person = json.loads(decode(ids))
        assert isinstance(person["name"], str)
        assert person["age"] >= 0
