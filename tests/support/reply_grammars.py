"""What the grammars of replies let through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("llguidance")

from letters import encode

from ark.chat.grammar import Answer, Reasoning, grammar
from ark.chat.tools.formats import HERMES, ToolFormat
from ark.chat.tools.toolbox import Tool, Toolbox
from ark.engines.chat import Grammar
from ark_backends.kit.grammar import GrammarFailed, Grammars

NUMBER = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}


TOOLS = [
    Tool(name="strict", parameters=NUMBER, strict=True, param="tools[0].function.parameters"),
    Tool(name="loose", parameters={"properties": {"a": {"not": {}}}}, param="tools[1].function.parameters"),
    Tool(name="none", param="tools[2].function.parameters"),
]


def box(choice: Any = None, *, parallel: bool = True, callable: Sequence[Tool] | None = None) -> Toolbox:
    chosen = () if choice == "none" else TOOLS if callable is None else callable
    return Toolbox(tools=tuple(TOOLS), callable=tuple(chosen), required=choice == "required", parallel=parallel)


def verdict(
    grammars: Grammars,
    text: str,
    *,
    answer: Answer | None = None,
    tools: Toolbox | None = None,
    form: ToolFormat = HERMES,
    reasoning: Reasoning = "none",
) -> str:
    """`whole`, `open` where more must follow, or `no`."""
    made = grammar(answer, tools, form, reasoning=reasoning)
    assert made is not None
    matcher = grammars.compile(made)
    try:
        for token in encode(text):
            matcher.consume(token)
    except GrammarFailed:
        return "no"
    return "whole" if matcher._inner.is_accepting() else "open"


def call(name: str = "strict", arguments: str = '{"a": 1}', form: ToolFormat = HERMES) -> str:
    if form.tagged:
        parameters = "<parameter=a>\n1\n</parameter>\n" if arguments != "{}" else ""
        return f"{form.marker}\n<function={name}>\n{parameters}</function>\n{form.close}"
    if form.name_separator:
        return f"{form.marker}{name}{form.name_separator}{arguments}"
    body = f'{{"name": "{name}", "{form.key}": {arguments}}}'
    return f"{form.marker}\n{body}\n{form.close}" if form.close else body


def accepts(grammars: Grammars, made: Grammar, text: str) -> bool:
    matcher = grammars.compile(made)
    try:
        for token in encode(text):
            matcher.consume(token)
    except GrammarFailed:
        return False
    return True
