"""The grammars and expressions of custom tools, held against the engine that enforces them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

pytest.importorskip("llguidance")

from letters import END, OTHER_END, START, TOKENS
from reply_grammars import box, call, verdict

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


RAW = {
    HERMES: ('<tool_call>\n{"name": "patch", "input":\n', "\n</tool_call>"),
    QWEN_XML: ("<tool_call>\n<function=patch>\n<parameter=input>\n", "\n</parameter>\n</function>\n</tool_call>"),
    LLAMA: ('{"name": "patch", "input":\n', ""),
    MISTRAL: ('[TOOL_CALLS] [{"name": "patch", "input":\n', ""),
    MISTRAL_ARGS: ("[TOOL_CALLS]patch[ARGS]\n", ""),
}
"""What stands before the input of a custom tool, and behind it. Where nothing does, the reply's end ends it."""


@pytest.mark.parametrize("form", RAW, ids=lambda form: form.name)
@pytest.mark.parametrize("auto", [False, True])
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
    grammars: Grammars, form: ToolFormat, auto: bool, text: str, found: str
) -> None:
    head, end = RAW[form]
    written = head + text + end
    tools = msgspec.structs.replace(custom(lark=PATCH), required=not auto)
    assert verdict(grammars, written, tools=tools, form=form) == found
    if auto:
        assert verdict(grammars, "Just text.", tools=tools, form=form) == "whole"
    for size in (1, 3, 1000):
        parser = ToolParser(form, {"patch": input_schema()}, raw=["patch"])
        deltas = [parser.push(written[at : at + size])[1] for at in range(0, len(written), size)]
        assert not parser.inside_arguments
        deltas.append(parser.flush()[1])
        calls = [delta for step in deltas for delta in step]
        assert [delta.name for delta in calls if delta.id is not None] == ["patch"]
        assert json.loads("".join(delta.arguments for delta in calls)) == {"input": text}
        reader = InputReader()
        assert "".join(reader.push(delta.arguments) for delta in calls) == text


@pytest.mark.parametrize("form", RAW, ids=lambda form: form.name)
@pytest.mark.parametrize("required", [False, True])
def test_it_may_stand_behind_other_calls(grammars: Grammars, form: ToolFormat, required: bool) -> None:
    """Last, where nothing but the end of the reply ends it."""
    head, end = RAW[form]
    tools = custom(lark=PATCH)
    (patch,), (look, *_) = tools.callable, box().callable
    tools = msgspec.structs.replace(tools, callable=(look, patch), required=required)
    before = alone = call(look.name, form=form)
    if form is MISTRAL:
        before, head = f"[TOOL_CALLS] [{before}", head.removeprefix("[TOOL_CALLS] [")
        alone = f"{before}]"
    written = before + form.separator + head + PATCHED + end
    assert verdict(grammars, written, tools=tools, form=form) == "whole"
    assert verdict(grammars, alone, tools=tools, form=form) == "whole"
    single = msgspec.structs.replace(tools, parallel=False)
    assert verdict(grammars, written, tools=single, form=form) == "no"
    assert verdict(grammars, RAW[form][0] + PATCHED + end, tools=single, form=form) == "whole"
    parser = ToolParser(form, {look.name: look.parameters or {}, "patch": input_schema()}, raw=["patch"])
    calls = [*parser.push(written)[1], *parser.flush()[1]]
    assert [delta.name for delta in calls if delta.id is not None] == [look.name, "patch"]
    assert json.loads("".join(delta.arguments for delta in calls if delta.index == 1)) == {"input": PATCHED}


def test_the_input_of_a_custom_tool_follows_its_expression(grammars: Grammars) -> None:
    tools = custom(parameters=input_schema(r"[a-z]+\n\d"))
    for text, found in (("ab\n1", "whole"), ("ab1", "no"), ("ab\n12", "no")):
        written = f'<tool_call>\n{{"name": "patch", "arguments": {json.dumps({"input": text})}}}\n</tool_call>'
        assert verdict(grammars, written, tools=tools) == found


@pytest.mark.parametrize("lark", ["nothing", "start: (", 'start: "a" }\nstart: "b"', ""])
def test_a_grammar_that_is_none_is_refused(grammars: Grammars, lark: str) -> None:
    with pytest.raises(BadRequest):
        grammars.compile(grammar(None, custom(lark=lark), HERMES))  # type: ignore[arg-type]
