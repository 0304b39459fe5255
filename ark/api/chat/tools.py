"""The tools that a request offers, and which of them the reply may call."""

from __future__ import annotations

from collections.abc import Sequence

from ark.api.chat.schema import (
    AllowedTools,
    ChatRequest,
    ChosenFunction,
    CustomDefinition,
    FunctionDefinition,
    NamedCustomTool,
    NamedTool,
    ToolDefinition,
)
from ark.chat.tools.custom import input_schema
from ark.chat.tools.toolbox import Tool, Toolbox
from ark.errors import invalid_value, missing_parameter


def read_tools(body: ChatRequest) -> Toolbox | None:
    """What the request says about tools; None where it offers none. Raises BadRequest with `param`."""
    if body.tools and body.functions:
        raise invalid_value("functions", "'functions' and 'tools' cannot both be sent; 'tools' is the newer one.")
    if not body.tools and body.tool_choice not in (None, "none", "auto"):
        raise invalid_value("tool_choice", "'tool_choice' is only allowed when 'tools' are specified.")
    if not body.functions and body.function_call not in (None, "none", "auto"):
        raise invalid_value("function_call", "'function_call' is only allowed when 'functions' are specified.")
    if body.functions:
        return _read_functions(body, body.functions)
    if not body.tools:
        return None
    definitions = [tool.function if isinstance(tool, ToolDefinition) else tool.custom for tool in body.tools]
    offered = _offer(definitions, "tools[{}].{}")
    choice = body.tool_choice
    chosen, required, parallel = () if choice == "none" else offered, choice == "required", body.parallel_tool_calls
    if isinstance(choice, NamedTool | NamedCustomTool):
        parallel = False
        chosen, required = (_choose(offered, choice, "tool_choice"),), True
    elif isinstance(choice, AllowedTools):
        subset = choice.allowed_tools
        found = [_choose(offered, tool, f"tool_choice.allowed_tools.tools[{i}]") for i, tool in enumerate(subset.tools)]
        chosen, required = tuple({tool.name: tool for tool in found}.values()), subset.mode == "required"
    return Toolbox(tools=offered, callable=chosen, required=required, parallel=parallel is not False)


def _read_functions(body: ChatRequest, functions: Sequence[FunctionDefinition]) -> Toolbox:
    offered = _offer(functions, "functions[{}]")
    chosen, required = () if body.function_call == "none" else offered, False
    if isinstance(body.function_call, ChosenFunction):
        chosen, required = (_find(offered, body.function_call.name, "function_call.name"),), True
    return Toolbox(tools=offered, callable=chosen, required=required, parallel=False, legacy=True)


def _offer(definitions: Sequence[FunctionDefinition | CustomDefinition], place: str) -> tuple[Tool, ...]:
    tools: dict[str, Tool] = {}
    for i, function in enumerate(definitions):
        where = place.format(i, "function" if isinstance(function, FunctionDefinition) else "custom")
        if function.name in tools:
            raise invalid_value(f"{where}.name", f"The name '{function.name}' stands twice.")
        if isinstance(function, CustomDefinition):
            tools[function.name] = _custom(function, f"{where}.format")
            continue
        tools[function.name] = Tool(
            name=function.name,
            description=function.description,
            parameters=function.parameters,
            strict=bool(function.strict),
            param=f"{where}.parameters",
        )
    return tuple(tools.values())


def _custom(definition: CustomDefinition, place: str) -> Tool:
    form = definition.format
    if form is not None and form.type == "grammar" and form.grammar is None:
        raise missing_parameter(f"{place}.grammar")
    grammar = None if form is None or form.type == "text" else form.grammar
    regex = grammar is not None and grammar.syntax == "regex"
    return Tool(
        name=definition.name,
        description=definition.description,
        parameters=input_schema(grammar.definition if grammar is not None and regex else None),
        strict=True,
        param=place,
        custom=True,
        lark=None if grammar is None or regex else grammar.definition,
    )


def _choose(tools: Sequence[Tool], named: NamedTool | NamedCustomTool, place: str) -> Tool:
    if isinstance(named, NamedTool):
        return _find(tools, named.function.name, f"{place}.function.name")
    return _find(tools, named.custom.name, f"{place}.custom.name")


def _find(tools: Sequence[Tool], name: str, param: str) -> Tool:
    for tool in tools:
        if tool.name == name:
            return tool
    known = ", ".join(tool.name for tool in tools)
    raise invalid_value(param, f"There is no tool '{name}' in this request; there is: {known}.")
