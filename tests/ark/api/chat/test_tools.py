"""What a request says about tools."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ark.api.chat.schema import ChatRequest
from ark.api.chat.tools import read_tools
from ark.chat.tools.toolbox import Toolbox
from ark.errors import BadRequest


def read(**fields: Any) -> Toolbox | None:
    messages = [{"role": "user", "content": "hi"}]
    return read_tools(msgspec.convert({"model": "m", "messages": messages, **fields}, ChatRequest))


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


TOOLS = [tool("one", description="First."), tool("two", parameters={"type": "object"}, strict=True)]
FUNCTIONS = [one["function"] for one in TOOLS]


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def allowed(mode: str, *names: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named(name) for name in names]}}


@pytest.mark.parametrize(
    ("choice", "callable", "required"),
    [
        (None, ["one", "two"], False),
        ("auto", ["one", "two"], False),
        ("required", ["one", "two"], True),
        (named("two"), ["two"], True),
        (allowed("auto", "two"), ["two"], False),
        (allowed("required", "two", "one", "two"), ["two", "one"], True),
    ],
)
def test_tool_choice(choice: Any, callable: list[str], required: bool) -> None:
    box = read(tools=TOOLS, tool_choice=choice)
    assert box is not None
    assert [one.name for one in box.tools] == ["one", "two"], "the model reads all of them"
    assert [one.name for one in box.callable] == callable
    assert box.required is required
    assert box.parallel is (choice != named("two")), "a named function is called once"
    assert not box.legacy


def test_no_tools() -> None:
    assert read() is None
    assert read(tools=[]) is None
    assert read(tools=[], tool_choice="auto", parallel_tool_calls=True) is None
    for box in (read(tools=TOOLS, tool_choice="none"), read(functions=FUNCTIONS, function_call="none")):
        assert box is not None
        assert [one.name for one in box.tools] == ["one", "two"], "the model reads about them all the same"
        assert not box.callable


def test_functions_are_tools_of_which_one_is_called() -> None:
    box = read(functions=FUNCTIONS, function_call={"name": "one"})
    assert box is not None
    assert (box.legacy, box.parallel, box.required) == (True, False, True)
    assert [one.name for one in box.callable] == ["one"]
    assert [one.param for one in box.tools] == ["functions[0].parameters", "functions[1].parameters"]


def test_parallel_calls_can_be_forbidden() -> None:
    box = read(tools=TOOLS, parallel_tool_calls=False)
    assert box is not None
    assert not box.parallel


def test_templates_read_openais_form() -> None:
    box = read(tools=TOOLS)
    assert box is not None
    assert [one.for_template() for one in box.tools] == [
        {
            "type": "function",
            "function": {
                "name": "one",
                "description": "First.",
                "parameters": {"type": "object", "properties": {}},
            },
        },
        {"type": "function", "function": {"name": "two", "parameters": {"type": "object"}}},
    ]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [tool("one"), tool("one")]}, "tools[1].function.name"),
        ({"functions": [{"name": "one"}, {"name": "one"}]}, "functions[1].name"),
        ({"tools": TOOLS, "functions": FUNCTIONS}, "functions"),
        ({"tools": TOOLS, "tool_choice": named("three")}, "tool_choice.function.name"),
        (
            {"tools": TOOLS, "tool_choice": allowed("auto", "one", "three")},
            "tool_choice.allowed_tools.tools[1].function.name",
        ),
        ({"functions": FUNCTIONS, "function_call": {"name": "three"}}, "function_call.name"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": named("one")}, "tool_choice"),
        ({"functions": FUNCTIONS, "tool_choice": "required"}, "tool_choice"),
        ({"function_call": {"name": "one"}}, "function_call"),
        ({"tools": TOOLS, "function_call": {"name": "one"}}, "function_call"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(**fields)
    assert caught.value.param == param
    assert caught.value.code == "invalid_value"


def custom(**form: Any) -> dict[str, Any]:
    return {"type": "custom", "custom": {"name": "run", **form}}


GRAMMAR = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /a+/"}}


def test_custom_tools_are_functions_with_one_text() -> None:
    box = read(tools=[custom(description="Runs."), TOOLS[0]], tool_choice={"type": "custom", "custom": {"name": "run"}})
    assert box is not None
    (run,) = box.callable
    assert (run.custom, run.lark, run.strict, box.required) == (True, None, True, True)
    assert run.for_template()["function"]["parameters"]["required"] == ["input"]
    box = read(tools=[custom(format=GRAMMAR)])
    assert box is not None
    assert box.tools[0].lark == "start: /a+/"
    regex = GRAMMAR | {"grammar": {"syntax": "regex", "definition": "a|b"}}
    box = read(tools=[custom(format=regex)])
    assert box is not None
    assert box.tools[0].parameters == {
        "type": "object",
        "properties": {"input": {"type": "string", "pattern": "^(?:a|b)$"}},
        "required": ["input"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [custom(format={"type": "grammar"})]}, "tools[0].custom.format.grammar"),
        ({"tools": [custom(), custom()]}, "tools[1].custom.name"),
        (
            {"tools": [custom()], "tool_choice": {"type": "custom", "custom": {"name": "x"}}},
            "tool_choice.custom.name",
        ),
    ],
)
def test_bad_custom_tools(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        read(**fields)
    assert refused.value.param == param
