"""Tools that are written into the messages, for templates that show none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ark.chat.tools.formats import FORMATS, HERMES, LLAMA, ToolFormat
from ark.chat.tools.in_prompt import write_calls, write_tools
from ark.chat.tools.parser import ToolParser

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
USER = {"role": "user", "content": "What is there?"}


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_calls_are_written_as_they_are_read(form: ToolFormat) -> None:
    calls = [("look", {"a": 'x "é"', "b": [1, None]}), ("go", {"c": "y"})]
    parser = ToolParser(form, {"look": {"properties": {"b": {"type": "array"}}}, "go": {}})
    steps = [parser.push(write_calls(form, calls)), parser.flush()]
    assert "".join(content for content, _ in steps).strip() == ""
    found: list[list[str]] = []
    for delta in [delta for _, deltas in steps for delta in deltas]:
        if delta.name:
            found.append([delta.name, ""])
        found[-1][1] += delta.arguments
    assert [(name, json.loads(arguments)) for name, arguments in found] == calls


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_the_system_message_describes_the_tools(form: ToolFormat) -> None:
    system, user = write_tools([USER], [TOOL], form)
    assert (system["role"], user) == ("system", USER)
    assert '"name": "look"' in system["content"]
    assert (form.key if form is LLAMA else form.marker) in system["content"]
    own = {"role": "system", "content": "Be brief."}
    both, _ = write_tools([own, USER], [TOOL], form)
    assert both["content"] == f"Be brief.\n\n{system['content']}"
    # What a client has sent stays as it is.
    assert own["content"] == "Be brief."


def test_calls_and_results_are_text() -> None:
    history = [
        USER,
        {"role": "assistant", "content": "I look.", "tool_calls": [call("look", {"a": 1}), call("look", {"a": 2})]},
        {"role": "tool", "tool_call_id": "1", "content": "a tree"},
        {"role": "tool", "tool_call_id": "2", "content": "a bush"},
        {"role": "assistant", "content": "Plants."},
    ]
    written = write_tools(history, None, HERMES)
    assert [one["role"] for one in written] == ["user", "assistant", "user", "assistant"]
    first, second = write_calls(HERMES, [("look", {"a": 1})]), write_calls(HERMES, [("look", {"a": 2})])
    assert first == '<tool_call>\n{"name": "look", "arguments": {"a": 1}}\n</tool_call>'
    assert written[1] == {"role": "assistant", "content": f"I look.\n{first}\n{second}"}
    assert written[2]["content"] == (
        "<tool_response>\na tree\n</tool_response>\n<tool_response>\na bush\n</tool_response>"
    )


def test_without_tools_nothing_is_added() -> None:
    assert write_tools([USER], None, HERMES) == [USER]
