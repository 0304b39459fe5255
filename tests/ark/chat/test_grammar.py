"""The grammars of replies: which texts they let through, held against the engine that enforces them."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("llguidance")

from letters import END, OTHER_END, START, TOKENS
from reply_grammars import NUMBER, TOOLS, accepts, box, call, verdict

from ark.chat.grammar import ANY_OBJECT, Answer, Reasoning, grammar
from ark.chat.tools.formats import FORMATS, HERMES, LLAMA, MISTRAL, MISTRAL_ARGS, QWEN_XML, ToolFormat
from ark.chat.tools.parser import ToolParser
from ark.chat.tools.toolbox import Tool, Toolbox
from ark.engines.json_schema import Bounds
from ark.errors import BadRequest
from ark_backends.kit.grammar import Grammars

THOUGHT = "<think>\nWhat about <tool_call> and {?\n</think>\n\n"


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(TOKENS, hidden=[START], ends=[END, OTHER_END])


def test_free_text_needs_no_grammar() -> None:
    assert grammar(None, None, HERMES) is None
    assert grammar(None, box(), None) is None, "a model without tools"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1}', "whole"),
        (' {\n  "a": [1, 2]\n}', "whole"),
        ("{}", "whole"),
        ('{"a": 1', "open"),
        ("[1]", "no"),
        ("Hello", "no"),
        ('{"a":' + " " * 50, "no"),
        ("<think>", "no"),
    ],
)
def test_json_object(grammars: Grammars, text: str, expected: str) -> None:
    assert verdict(grammars, text, answer=Answer(ANY_OBJECT)) == expected


@pytest.mark.parametrize(
    ("reasoning", "text", "expected"),
    [
        ("possible", THOUGHT + '{"a": 1}', "whole"),
        ("possible", '{"a": 1}', "whole"),
        ("possible", "<think>\nno end", "open"),
        ("possible", THOUGHT, "open"),
        ("possible", THOUGHT + "Hello", "no"),
        ("opened", "\nthinking\n</think>\n" + '{"a": 1}', "whole"),
        ("opened", '{"a": 1}', "open"),
    ],
)
def test_the_schema_binds_the_answer_and_not_the_reasoning(
    grammars: Grammars, reasoning: Reasoning, text: str, expected: str
) -> None:
    assert verdict(grammars, text, answer=Answer(NUMBER), reasoning=reasoning) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello.", "whole"),
        (call(), "whole"),
        (f"I look. {call()}", "whole"),
        (f"{call()}\n{call('none', '{}')}", "whole"),
        (f"{call()} Done.", "whole"),
        (call("loose", '{"a": [1]}'), "whole"),
        (call("loose", '{"b": [1]}'), "no"),
        ("<tool_call>", "open"),
        ("<tool_call>\nlook", "no"),
        (call("unknown"), "no"),
        (call(arguments='{"a": "x"}'), "no"),
        (call(arguments="{}"), "no"),
        (call("loose", "[1]"), "no"),
        (call("none", '{"b": 1}'), "no"),
    ],
)
@pytest.mark.parametrize("reasoning", ["none", "possible"])
def test_auto(grammars: Grammars, reasoning: Reasoning, text: str, expected: str) -> None:
    thought = "" if reasoning == "none" else THOUGHT
    assert verdict(grammars, thought + text, tools=box(), reasoning=reasoning) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (call(), "whole"),
        (f"{call()}\n{call()}", "whole"),
        ("Hello.", "no"),
        (f"Hello. {call()}", "no"),
        (f"{call()} Done.", "no"),
    ],
)
def test_required(grammars: Grammars, text: str, expected: str) -> None:
    assert verdict(grammars, text, tools=box("required")) == expected
    assert verdict(grammars, THOUGHT + text, tools=box("required"), reasoning="possible") == expected


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS.keys())
@pytest.mark.parametrize("choice", [None, "required"])
def test_one_call_when_parallel_calls_are_forbidden(grammars: Grammars, form: ToolFormat, choice: Any) -> None:
    body = call(form=form)
    once, twice = body, f"{body}{form.separator}{body}"
    if form.array:
        once, twice = f"{form.marker} [{once}]", f"{form.marker} [{twice}]"
    assert verdict(grammars, once, tools=box(choice, parallel=False), form=form) == "whole"
    assert verdict(grammars, twice, tools=box(choice, parallel=False), form=form) == "no"
    assert verdict(grammars, twice, tools=box(choice), form=form) == "whole"


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_only_allowed_tools_are_called(grammars: Grammars, choice: str) -> None:
    allowed = box(choice, callable=TOOLS[2:])
    assert verdict(grammars, call("none", "{}"), tools=allowed) == "whole"
    assert verdict(grammars, call(), tools=allowed) == "no"


@pytest.mark.parametrize(
    ("form", "text", "auto", "required"),
    [
        (LLAMA, call(form=LLAMA), "whole", "whole"),
        (LLAMA, LLAMA.marker + call(form=LLAMA), "whole", "whole"),
        (LLAMA, f"{call(form=LLAMA)}; {call('none', '{}', LLAMA)}", "whole", "whole"),
        (LLAMA, "Hello {there}", "whole", "no"),
        (LLAMA, '{"b": 1}', "no", "no"),
        (MISTRAL, f"[TOOL_CALLS] [{call(form=MISTRAL)}]", "whole", "whole"),
        (MISTRAL, f"[TOOL_CALLS][{call(form=MISTRAL)}, {call('none', '{}', MISTRAL)}]", "whole", "whole"),
        (MISTRAL, f"I look. [TOOL_CALLS] [{call(form=MISTRAL)}]", "whole", "no"),
        (MISTRAL, f"[TOOL_CALLS] [{call(form=MISTRAL)}", "open", "open"),
        (MISTRAL, "[TOOL_CALLS] none", "no", "no"),
        (MISTRAL_ARGS, '[TOOL_CALLS]strict[ARGS]{"a": 1}', "whole", "whole"),
        (MISTRAL_ARGS, '[TOOL_CALLS]strict[ARGS]{"a": 1}[TOOL_CALLS]none[ARGS]{}', "whole", "whole"),
        (MISTRAL_ARGS, 'I look.[TOOL_CALLS]strict[ARGS]{"a": 1}', "whole", "no"),
        (MISTRAL_ARGS, '[TOOL_CALLS]strict[ARGS]{"a": ', "open", "open"),
        (MISTRAL_ARGS, '[TOOL_CALLS]strict[ARGS]{"b"', "no", "no"),
        (MISTRAL_ARGS, "[TOOL_CALLS]other", "no", "no"),
        (QWEN_XML, call(form=QWEN_XML), "whole", "whole"),
        (QWEN_XML, f"{call(form=QWEN_XML)}\n{call('none', '{}', QWEN_XML)}", "whole", "whole"),
        (QWEN_XML, f"I look.\n{call(form=QWEN_XML)}", "whole", "no"),
        (QWEN_XML, "<tool_call>\n<function=strict>\n<parameter=a>\n1\n</parameter>\n", "open", "open"),
        (QWEN_XML, "<tool_call>\n<function=strict>\n<parameter=a>\nx", "no", "no"),
        (QWEN_XML, "<tool_call>\n<function=strict>\n</function>", "no", "no"),
        (QWEN_XML, "<tool_call>\n<function=other", "no", "no"),
        (
            QWEN_XML,
            "<tool_call>\n<function=loose>\n<parameter=a>\n<b>\n\n</parameter>\n</function>\n</tool_call>",
            "whole",
            "whole",
        ),
    ],
)
def test_other_formats(grammars: Grammars, form: ToolFormat, text: str, auto: str, required: str) -> None:
    assert verdict(grammars, text, tools=box(), form=form) == auto
    assert verdict(grammars, text, tools=box("required"), form=form) == required
    if required == "whole":
        parser = ToolParser(form, {tool.name: {} for tool in TOOLS})
        first, last = parser.push(text), parser.flush()
        calls = [delta for delta in (*first[1], *last[1]) if delta.id is not None]
        assert (first[0] + last[0], len(calls)) == (
            "",
            text.count("[ARGS]") or text.count("<function=") or text.count('"name"'),
        )


@pytest.mark.parametrize("form", FORMATS.values(), ids=lambda form: form.name)
def test_forbidden_tools_leave_text_without_calls(grammars: Grammars, form: ToolFormat) -> None:
    none = box("none")
    for text in ("", "Any text.", '{"a": 1}', '{"name": "strict"', "[1]"):
        assert verdict(grammars, text, tools=none, form=form) == "whole"
        assert verdict(grammars, THOUGHT + text, tools=none, form=form, reasoning="possible") == "whole"
    assert verdict(grammars, f"Well. {form.marker}", tools=none, form=form) == "no"
    assert verdict(grammars, f"{THOUGHT}{form.marker}", tools=none, form=form, reasoning="possible") == "no"
    answer = Answer(ANY_OBJECT)
    assert verdict(grammars, '{"a": 1}', answer=answer, tools=none, form=form) == "whole"
    assert verdict(grammars, "a", answer=answer, tools=none, form=form) == "no"


def tag_tool(strict: bool, **part: Any) -> Toolbox:
    parameters = {"type": "object", "properties": {"a": part}, "required": ["a"], "additionalProperties": False}
    parameters["$defs"] = {"colour": {"type": "string", "enum": ["red"]}, "short": {"type": "string", "maxLength": 3}}
    tool = Tool(name="f", parameters=parameters, strict=strict, param="tools[0].function.parameters")
    return box("required", callable=[tool])


@pytest.mark.parametrize(
    ("part", "value", "expected"),
    [
        ({"enum": ["red", "blue"]}, "blue", "whole"),
        ({"enum": ["red", "blue"]}, "green", "no"),
        ({"const": "red"}, "blue", "no"),
        ({"anyOf": [{"enum": ["red"]}, {"type": "null"}]}, "red", "whole"),
        ({"anyOf": [{"enum": ["red"]}, {"type": "null"}]}, "null", "whole"),
        ({"anyOf": [{"enum": ["red"]}, {"type": "null"}]}, "blue", "no"),
        ({"anyOf": [{"enum": ["red"]}, {"type": "string"}]}, "blue", "whole"),
        ({"enum": ["red", None, 7]}, "null", "whole"),
        ({"enum": ["red", None, 7]}, "7", "no"),
        ({"$ref": "#/$defs/colour"}, "red", "whole"),
        ({"$ref": "#/$defs/colour"}, "blue", "no"),
        ({"type": "string"}, "a\n<b> </parameter> c", "whole"),
        ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", "whole"),
        ({"type": "array", "items": {"type": "integer"}}, "[1, x", "no"),
        ({"type": "string", "pattern": "^a$"}, "b", "whole"),
    ],
)
def test_values_in_tags(grammars: Grammars, part: dict[str, Any], value: str, expected: str) -> None:
    text = f"<tool_call>\n<function=f>\n<parameter=a>\n{value}\n</parameter>\n</function>\n</tool_call>"
    assert verdict(grammars, text, tools=tag_tool(False, **part), form=QWEN_XML) == expected


@pytest.mark.parametrize(
    "part",
    [
        {"type": "string", "pattern": "^a$"},
        {"anyOf": [{"type": "string", "minLength": 2}, {"type": "null"}]},
        {"$ref": "#/$defs/short"},
        {"anyOf": [{"enum": ["red"]}, {"type": "string", "format": "date"}]},
    ],
)
def test_text_in_tags_is_not_promised_what_cannot_be_kept(part: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        grammar(None, tag_tool(True, **part), QWEN_XML)
    assert caught.value.param == "tools[0].function.parameters.properties.a"
    assert grammar(None, tag_tool(False, **part), QWEN_XML) is not None


@pytest.mark.parametrize(
    "part", [{"type": "string"}, {"anyOf": [{"type": "string"}, {"type": "integer"}]}, {"$ref": "#/$defs/colour"}, {}]
)
def test_text_in_tags_is_promised_what_is_kept(part: dict[str, Any]) -> None:
    assert grammar(None, tag_tool(True, **part), QWEN_XML) is not None


def test_json_answers_beside_tools(grammars: Grammars) -> None:
    both = {"answer": Answer(NUMBER), "tools": box()}
    assert verdict(grammars, '{"a": 1}', **both) == "whole"  # type: ignore[arg-type]
    assert verdict(grammars, call(), **both) == "whole"  # type: ignore[arg-type]
    assert verdict(grammars, "Hello", **both) == "no"  # type: ignore[arg-type]
    required = {"answer": Answer(NUMBER), "tools": box("required")}
    assert verdict(grammars, '{"a": 1}', **required) == "no"  # type: ignore[arg-type]


CITY = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}, "required": ["name"]}
EXTRA = '{"name": "a", "b": 1}'


@pytest.mark.parametrize(
    ("schema", "text", "strict"),
    [
        (CITY, EXTRA, "no"),
        (CITY, '{"name": "a"}', "whole"),
        ({"type": "array", "items": CITY}, f"[{EXTRA}]", "no"),
        ({"type": "object", "properties": {"to": CITY}, "additionalProperties": True}, f'{{"to": {EXTRA}}}', "no"),
        ({"type": "object", "properties": {}, "additionalProperties": True}, '{"b": 1}', "whole"),
        ({"type": "object"}, '{"b": 1}', "whole"),
        ({"$defs": {"city": CITY}, "$ref": "#/$defs/city"}, EXTRA, "no"),
        ({"$defs": {"city": CITY}, "anyOf": [{"type": "null"}, {"$ref": "#/$defs/city"}]}, EXTRA, "no"),
        ({"definitions": {"city": CITY}, "allOf": [{"$ref": "#/definitions/city"}]}, EXTRA, "no"),
        # Each part would forbid what the other one lists.
        ({"allOf": [CITY, {"type": "object", "properties": {"b": {"type": "integer"}}}]}, EXTRA, "whole"),
        (CITY | {"$defs": {"b": {"properties": {"b": {"type": "integer"}}}}, "allOf": [{"$ref": "#/$defs/b"}]},
         EXTRA, "whole"),
        # What is required is not forbidden.
        (CITY | {"required": ["name", "b"]}, EXTRA, "whole"),
    ],
)  # fmt: skip
def test_a_strict_schema_allows_no_property_that_it_does_not_list(
    grammars: Grammars, schema: dict[str, Any], text: str, strict: str
) -> None:
    assert verdict(grammars, text, answer=Answer(schema)) == "whole"
    assert verdict(grammars, text, answer=Answer(schema, strict=True)) == strict
    parameters = {"type": "object", "properties": {"to": schema}, "$defs": schema.get("$defs", {}),
                  "definitions": schema.get("definitions", {})}  # fmt: skip
    for is_strict in (False, True):
        # A function takes no arguments but those that it lists, whatever the request says.
        tool = Tool(name="f", parameters=parameters, strict=is_strict, param="p")
        box = Toolbox(tools=(tool,), callable=(tool,))
        arguments = f'{{"to": {text}}}'
        assert verdict(grammars, call("f", arguments), tools=box) == strict
        if "allOf" in schema:
            # Among tags it would be text.
            continue
        tagged = f"<tool_call>\n<function=f>\n<parameter=to>\n{text}\n</parameter>\n</function>\n</tool_call>"
        assert verdict(grammars, tagged, tools=box, form=QWEN_XML) == strict


@pytest.mark.parametrize(
    ("schema", "longest"),
    [
        ({"type": "string"}, 5),
        ({"type": ["null", "string"]}, 5),
        ({}, 5),
        ({"description": "anything", "items": {}}, 5),
        ({"anyOf": [{"minLength": 1}, {"type": "null"}]}, 5),
        ({"anyOf": [{"type": "null"}, {"$ref": "#/$defs/name"}], "$defs": {"name": {"type": "string"}}}, 5),
        ({"type": "string", "maxLength": 7}, 7),
        ({"type": "string", "minLength": 6}, 20),
        ({"type": "string", "pattern": "^a*$"}, 20),
        ({"enum": ["aaaaaaa"]}, 7),
    ],
)
def test_strings_that_a_schema_leaves_unbounded_end(grammars: Grammars, schema: dict[str, Any], longest: int) -> None:
    whole, over = json.dumps("a" * longest), json.dumps("a" * (longest + 1))
    unbounded = grammar(Answer(schema), None, None)
    bounds = Bounds(string_length=5, array_items=3)
    bounded = grammar(Answer(schema), None, None, bounds=bounds)
    tool = Tool(name="f", parameters={"type": "object", "properties": {"a": schema}}, param="p")
    tools = Toolbox(tools=(tool,), callable=(tool,))
    for made, before in ((bounded, ""), (grammar(None, tools, HERMES, bounds=bounds), call("f", '{"a": ')[:-15])):
        assert made is not None
        if "$defs" in schema and before:
            continue
        assert accepts(grammars, made, before + whole)
        assert accepts(grammars, made, before + over) is (longest == 20)
    assert unbounded is not None
    assert accepts(grammars, unbounded, over) is (longest in (5, 20))


@pytest.mark.parametrize(
    ("schema", "most"),
    [
        ({"type": "array"}, 3),
        ({"type": ["array", "null"], "items": {"type": "integer"}}, 3),
        ({}, 3),
        ({"type": "array", "maxItems": 4}, 4),
        ({"type": "array", "minItems": 4}, None),
        ({"const": [1, 1, 1, 1]}, 4),
        ({"type": 5}, 0),
    ],
)
def test_arrays_that_a_schema_leaves_open_end(grammars: Grammars, schema: dict[str, Any], most: int | None) -> None:
    bounded = grammar(Answer(schema), None, None, bounds=Bounds(string_length=5, array_items=3))
    assert bounded is not None
    if most == 0:
        # Whatever is no schema is refused as before.
        with pytest.raises(BadRequest):
            grammars.compile(bounded)
        return
    assert accepts(grammars, bounded, json.dumps([1] * (most or 20)))
    assert accepts(grammars, bounded, json.dumps([1] * ((most or 20) + 1))) is (most is None)


def test_in_json_mode_what_an_object_holds_ends(grammars: Grammars) -> None:
    made = grammar(Answer(ANY_OBJECT), None, None, bounds=Bounds(string_length=5, array_items=3))
    assert made is not None
    for text, expected in (
        ('{"a": {"b": [1, true, {"c": "12345"}]}}', True),
        ('{"a": {"b": "123456"}}', False),
        ('{"a": [{"b": [1, 2, 3, 4]}]}', False),
    ):
        assert accepts(grammars, made, text) is expected


def test_schemas_are_named_by_their_place_in_the_request() -> None:
    made = grammar(Answer(NUMBER, "response_format.json_schema.schema"), box(), HERMES)
    assert made is not None
    assert [param for param, _ in made.schemas] == [
        *(f"tools[{i}].function.parameters" for i in range(3)),
        "response_format.json_schema.schema",
    ]
