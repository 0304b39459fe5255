"""Content and calls out of a reply's text, however the text is cut."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ark.chat.tools.formats import FORMATS, HERMES, LLAMA, MISTRAL, MISTRAL_ARGS, QWEN_XML, ToolFormat
from ark.chat.tools.parser import CallDelta, ToolParser

NAMES = ("look_up", "look", "stop-it")
SCHEMAS: dict[str, dict[str, Any]] = {name: {} for name in NAMES}


def parse(form: ToolFormat, pieces: list[str]) -> tuple[str, list[tuple[str, str, str]]]:
    """The content and the calls as (id, name, arguments)."""
    content, deltas = stream(form, pieces)
    calls: list[list[str]] = []
    for delta in deltas:
        if delta.id is not None:
            assert delta.name is not None
            assert delta.index == len(calls)
            calls.append([delta.id, delta.name, ""])
        calls[delta.index][2] += delta.arguments
    return content, [(a, b, c) for a, b, c in calls]


def stream(form: ToolFormat, pieces: list[str]) -> tuple[str, list[CallDelta]]:
    numbers = itertools.count()
    parser = ToolParser(form, SCHEMAS, new_id=lambda: f"id{next(numbers)}")
    content, deltas = "", []
    for step in [*(parser.push(piece) for piece in pieces), parser.flush()]:
        content += step[0]
        deltas += step[1]
    return content, deltas


def called(text: str, form: ToolFormat = HERMES) -> tuple[str, list[tuple[str, str]]]:
    content, calls = parse(form, [text])
    return content, [(name, arguments) for _, name, arguments in calls]


def tagged(name: str, arguments: dict[str, Any]) -> str:
    parameters = [f"<parameter={key}>\n{json.dumps(value)}\n</parameter>\n" for key, value in arguments.items()]
    return f"<function={name}>\n{''.join(parameters)}</function>"


def write(form: ToolFormat, calls: list[tuple[str, dict[str, Any]]]) -> str:
    """Calls as a model of the family writes them."""
    if form.tagged:
        return form.separator.join(f"{form.marker}\n{tagged(*one)}\n{form.close}" for one in calls)
    if form.name_separator:
        return "".join(f"{form.marker}{name}{form.name_separator}{json.dumps(arguments)}" for name, arguments in calls)
    bodies = [json.dumps({"name": name, form.key: arguments}) for name, arguments in calls]
    if form.array:
        return f"{form.marker} [{form.separator.join(bodies)}]"
    if form.close:
        return form.separator.join(f"{form.marker}\n{body}\n{form.close}" for body in bodies)
    return form.separator.join(bodies)


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("Hello.", "Hello.", []),
        ('<tool_call>\n{"name": "look", "arguments": {"a": 1}}\n</tool_call>', "", [("look", '{"a": 1}')]),
        ('I look.\n\n<tool_call>{"name": "look", "arguments": {}}</tool_call>\n', "I look.", [("look", "{}")]),
        ('<tool_call>{"name": "look", "arguments": {}}</tool_call>\n\nDone.', "Done.", [("look", "{}")]),
        (
            '<tool_call>{"name": "look", "arguments": {"a": "</tool_call> }"}}</tool_call>',
            "",
            [("look", '{"a": "</tool_call> }"}')],
        ),
        ('<tool_call>{"arguments": {"b": [2]}, "name": "look"}</tool_call>', "", [("look", '{"b": [2]}')]),
        ('<tool_call>{"name": "look", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("look", '{"a": 1}')]),
        ('<tool_call>{"name": "look"}</tool_call>', "", [("look", "{}")]),
        ('<tool_call>{"name": "look", "arguments": {}, "x": [1]}</tool_call>', "", [("look", "{}")]),
        ('<tool_call>{"name": "look", "arguments": {}}', "", [("look", "{}")]),
        ('<tool_call>{"name": "look", "arguments": {"a": ', "", [("look", '{"a": ')]),
        ('<tool_call>{"name": "hide", "arguments": {}}</tool_call>', None, []),
        ('<tool_call>{"name": "look", "arguments": [1]}</tool_call>', None, []),
        ("<tool_call>look()</tool_call>", None, []),
        ('<tool_call>{"name": "lo', None, []),
        ("<tool_call>", None, []),
        ("a < b <tool", None, []),
        ("  ", None, []),
        ('<tool_call> no <tool_call>{"name": "look", "arguments": {}}</tool_call>', "<tool_call> no", [("look", "{}")]),
    ],
)
def test_hermes(text: str, content: str | None, calls: list[tuple[str, str]]) -> None:
    assert called(text) == (text if content is None else content, calls)


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ('{"name": "look", "parameters": {"a": 1}}', "", [("look", '{"a": 1}')]),
        ('<|python_tag|>{"name": "look", "parameters": {}}', "", [("look", "{}")]),
        (
            '{"name": "look", "parameters": {}}; {"name": "look_up", "parameters": {"q": ";"}}',
            "",
            [("look", "{}"), ("look_up", '{"q": ";"}')],
        ),
        ('{"answer": 42, "name": "look"}', None, []),
        ('The call is {"name": "look", "parameters": {}}', None, []),
        ('{"name": "looking", "parameters": {}}', None, []),
        ("{}", None, []),
    ],
)
def test_llama(text: str, content: str | None, calls: list[tuple[str, str]]) -> None:
    assert called(text, LLAMA) == (text if content is None else content, calls)


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ('[TOOL_CALLS] [{"name": "look", "arguments": {"a": [1]}}]', "", [("look", '{"a": [1]}')]),
        (
            '[TOOL_CALLS][{"name": "look", "arguments": {}}, {"arguments": {}, "name": "look_up"}]',
            "",
            [("look", "{}"), ("look_up", "{}")],
        ),
        ("[TOOL_CALLS] none", None, []),
        ("[TOOL] [1]", None, []),
    ],
)
def test_mistral(text: str, content: str | None, calls: list[tuple[str, str]]) -> None:
    assert called(text, MISTRAL) == (text if content is None else content, calls)


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ('[TOOL_CALLS]look[ARGS]{"a": 1}', "", [("look", '{"a": 1}')]),
        (
            '[TOOL_CALLS]look[ARGS]{}[TOOL_CALLS]look_up[ARGS]{"q": "[ARGS]}{"}',
            "",
            [("look", "{}"), ("look_up", '{"q": "[ARGS]}{"}')],
        ),
        ('I look.\n[TOOL_CALLS] look[ARGS] {"a": [{}]}\n', "I look.", [("look", '{"a": [{}]}')]),
        ("[TOOL_CALLS]look[ARGS]{} Done.", "Done.", [("look", "{}")]),
        ('[TOOL_CALLS]look[ARGS]{"a": ', "", [("look", '{"a": ')]),
        ("[TOOL_CALLS]hide[ARGS]{}", None, []),
        ("[TOOL_CALLS]look[ARGS][1]", None, []),
        ("[TOOL_CALLS]look[AR", None, []),
        ("[TOOL_CALLS]look {}", None, []),
        ("[TOOL_CALLS]", None, []),
        ("look[ARGS]{}", None, []),
        ("[TOOL_CALLS]no[TOOL_CALLS]look[ARGS]{}", "[TOOL_CALLS]no", [("look", "{}")]),
    ],
)
def test_mistral_args(text: str, content: str | None, calls: list[tuple[str, str]]) -> None:
    assert called(text, MISTRAL_ARGS) == (text if content is None else content, calls)


@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        ("", {}),
        ("<parameter=text>\nParis\n</parameter>\n", {"text": "Paris"}),
        ("<parameter=text>\n\n  two\nlines \n\n</parameter>\n", {"text": "\n  two\nlines \n"}),
        ('<parameter=text>\n"</function>"\n</parameter>\n', {"text": '"</function>"'}),
        ("<parameter=text>42</parameter><parameter=count>42</parameter>", {"text": "42", "count": 42}),
        ("<parameter=count>\nmany\n</parameter>", {"count": "many"}),
        ("<parameter=on>\nTrue\n</parameter>\n<parameter=list>\n[1, {}]\n</parameter>", {"on": True, "list": [1, {}]}),
        ("<parameter=other>\n1\n</parameter>", {"other": "1"}),
        ("<parameter=maybe>\nnull\n</parameter>", {"maybe": None}),
        ("<parameter=maybe>\nnone\n</parameter>", {"maybe": "none"}),
        ("<parameter=either>\nnull\n</parameter>", {"either": None}),
        ("<parameter=named>\n1.5\n</parameter>", {"named": 1.5}),
        ("<parameter=size>\n2\n</parameter>", {"size": "2"}),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_qwen_xml(parameters: str, arguments: dict[str, Any], step: int) -> None:
    schema = {
        "properties": {
            "text": {"type": "string"},
            "count": {"type": "integer"},
            "on": {"type": "boolean"},
            "list": {"type": ["array", "null"]},
            "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "named": {"$ref": "#/$defs/named"},
            "size": {"enum": ["1", "2"]},
            "either": {"enum": ["1", None]},
        },
        "$defs": {"named": {"type": "number"}},
    }
    text = f"I look.\n<tool_call>\n<function=look>\n{parameters}</function>\n</tool_call>"
    parser = ToolParser(QWEN_XML, dict.fromkeys(NAMES, schema))
    steps = [*(parser.push(text[i : i + step]) for i in range(0, len(text), step)), parser.flush()]
    assert "".join(content for content, _ in steps) == "I look."
    first, *rest = [delta for _, deltas in steps for delta in deltas]
    assert first.name == "look"
    assert json.loads("".join(delta.arguments for delta in (first, *rest))) == arguments
    if step == 1:
        assert len(rest) == len(arguments) + 1, "each comes as soon as it is whole"


@pytest.mark.parametrize("text", ["<tool_call>\n<function=hide>", "<tool_call>\n<func", "<tool_call>look</tool_call>"])
def test_no_call_in_tags(text: str) -> None:
    assert called(text, QWEN_XML) == (text, [])


def test_mistral_ids_are_what_its_templates_accept() -> None:
    assert len(MISTRAL.new_id()) == 9
    assert MISTRAL.new_id().isalnum()
    assert HERMES.new_id().startswith("call_")


def test_arguments_come_letter_by_letter() -> None:
    text = '<tool_call>{"name": "look", "arguments": {"a": 1}}</tool_call>'
    _, deltas = stream(HERMES, list(text))
    first, *rest = deltas
    assert (first.name, first.arguments) == ("look", "")
    assert [delta.arguments for delta in rest] == list('{"a": 1}')


def test_a_reply_in_json_is_not_held_back_longer_than_it_looks_like_a_call() -> None:
    parser = ToolParser(LLAMA, SCHEMAS)
    assert parser.push('{"n') == ("", [])
    assert parser.push("u") == ('{"nu', [])


FRAGMENTS = (
    *(form.marker for form in FORMATS.values()),
    *("<tool", "_call>", "</tool_call>", "[", "]", "{", "}", '"', "\\", ",", ";", ":", " ", "\n", "é", "Hello"),
    *('{"name": "', "look", "look_up", "hide", '", "arguments": ', '", "parameters": ', '{"a": [1, "}"]}', "{}"),
    *('"name"', '"arguments"', '{"arguments": {}, ', "null", '"{}"', "stop-it"),
)


@st.composite
def cut_texts(draw: st.DrawFn) -> tuple[str, list[str]]:
    text = "".join(draw(st.lists(st.sampled_from(FRAGMENTS), max_size=14)))
    places = sorted(draw(st.sets(st.integers(0, len(text)))))
    return text, [text[a:b] for a, b in itertools.pairwise([0, *places, len(text)])]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS.keys())
@settings(deadline=None)
@given(cut=cut_texts())
@example(cut=('<tool_call>{"name": "look", "arguments": {}}</tool_call> \n x', ["<tool_call>", ""]))
def test_cuts_make_no_difference(form: ToolFormat, cut: tuple[str, list[str]]) -> None:
    text, pieces = cut
    whole = parse(form, [text])
    assert parse(form, pieces if "".join(pieces) == text else list(text)) == whole
    assert parse(form, list(text)) == whole


@pytest.mark.parametrize("form", [form for form in FORMATS.values() if not form.tagged], ids=lambda form: form.name)
@settings(deadline=None)
@given(
    content=st.text(st.characters(exclude_characters="<[{", exclude_categories=["Cs"]), max_size=20).map(str.strip),
    calls=st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.dictionaries(st.text(max_size=5), st.none() | st.integers() | st.text(max_size=9), max_size=3),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_what_a_model_writes_is_read(form: ToolFormat, content: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    before = "" if form.bare else content
    got, read = parse(form, list(f"{before} {write(form, calls)}"))
    assert got.strip() == before
    assert [(name, json.loads(arguments)) for _, name, arguments in read] == calls


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_a_reply_that_is_cut_has_no_half_of_a_call_in_its_content(form: ToolFormat) -> None:
    calls = write(form, [("look", {"a": [1, "x"]}), ("stop-it", {"b": "y"})])
    text = f"I look. {calls if calls.startswith(form.marker) else form.marker + calls}"
    for end in range(len(text) + 1):
        parser = ToolParser(form, SCHEMAS)
        steps = [parser.push(text[:end]), parser.flush(cut=True)]
        content = "".join(content for content, _ in steps)
        # The first letter of a marker may as well be an ordinary one.
        assert content.rstrip() in (text[:end][:7].rstrip(), f"I look. {form.marker[0]}"), text[:end]
    assert [delta.name for _, deltas in steps for delta in deltas if delta.name] == ["look", "stop-it"]


def test_json_that_is_cut_is_content_as_long_as_it_may_be_no_call() -> None:
    parser = ToolParser(LLAMA, SCHEMAS)
    steps = [parser.push('{"name": "lo'), parser.flush(cut=True)]
    assert "".join(content for content, _ in steps) == '{"name": "lo'
