"""The grammars and expressions of custom tools, held against the engine that enforces them."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest.importorskip("llguidance")

from letters import END, OTHER_END, START, TOKENS
from reply_grammars import box, verdict

from ark.chat.grammar import grammar
from ark.chat.tools.custom import InputReader, input_schema
from ark.chat.tools.formats import HERMES, LLAMA, MISTRAL, MISTRAL_ARGS, QWEN_XML, ToolFormat
from ark.chat.tools.parser import ToolParser
from ark.chat.tools.toolbox import Tool, Toolbox
from ark.errors import BadRequest
from ark_backends.kit.grammar import Grammars


@pytest.fixture(scope="module")
def grammars() -> Grammars:
    return Grammars(TOKENS, hidden=[START], ends=[END, OTHER_END])


PATCH = 'start: begin line+ end\nbegin: "*** Begin" LF\nend: "*** End"\nline: "+" /(.*)/ LF\n%import common.LF'


PATCHED = '*** Begin\n+print("a\\n")\n+}\n*** End'


def custom(**fields: Any) -> Toolbox:
    return box(
        "required", callable=[Tool(name="patch", strict=True, param="tools[0].custom.format", custom=True, **fields)]
    )


@pytest.mark.parametrize("form", [HERMES, QWEN_XML], ids=lambda form: form.name)
@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PATCHED, "whole"),
        ("*** Begin\n*** End", "no"),
        ("*** Begin\n+a\n-b\n*** End", "no"),
        ("+a", "no"),
    ],
)
def test_the_input_of_a_custom_tool_follows_its_grammar(
    grammars: Grammars, form: ToolFormat, text: str, found: str
) -> None:
    head, end = '<tool_call>\n{"name": "patch", "input":\n', "\n</tool_call>"
    if form is QWEN_XML:
        head = "<tool_call>\n<function=patch>\n<parameter=input>\n"
        end = "\n</parameter>\n</function>\n</tool_call>"
    written = head + text + end
    assert verdict(grammars, written, tools=custom(lark=PATCH), form=form) == found
    for size in (1, 3, 1000):
        parser = ToolParser(form, {"patch": input_schema()}, raw=["patch"])
        deltas = [parser.push(written[at : at + size])[1] for at in range(0, len(written), size)]
        deltas.append(parser.flush()[1])
        calls = [delta for step in deltas for delta in step]
        assert [delta.name for delta in calls if delta.id is not None] == ["patch"]
        assert json.loads("".join(delta.arguments for delta in calls)) == {"input": text}
        reader = InputReader()
        assert "".join(reader.push(delta.arguments) for delta in calls) == text


def test_the_input_of_a_custom_tool_follows_its_expression(grammars: Grammars) -> None:
    tools = custom(parameters=input_schema(r"[a-z]+\n\d"))
    for text, found in (("ab\n1", "whole"), ("ab1", "no"), ("ab\n12", "no")):
        written = f'<tool_call>\n{{"name": "patch", "arguments": {json.dumps({"input": text})}}}\n</tool_call>'
        assert verdict(grammars, written, tools=tools) == found


@pytest.mark.parametrize("form", [LLAMA, MISTRAL, MISTRAL_ARGS], ids=lambda form: form.name)
def test_a_format_whose_calls_have_no_end_has_no_grammars_in_lark(form: ToolFormat) -> None:
    with pytest.raises(BadRequest) as refused:
        grammar(None, custom(lark=PATCH), form)
    assert (refused.value.param, refused.value.code) == ("tools[0].custom.format", "invalid_schema")


@pytest.mark.parametrize("lark", ["nothing", "start: (", 'start: "a" }\nstart: "b"', ""])
def test_a_grammar_that_is_none_is_refused(grammars: Grammars, lark: str) -> None:
    with pytest.raises(BadRequest):
        grammars.compile(grammar(None, custom(lark=lark), HERMES))  # type: ignore[arg-type]
