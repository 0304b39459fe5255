"""The tools that a request offers, and which of them the reply may call."""

from __future__ import annotations

from collections.abc import Sequence

from ark.api.chat.schema import AllowedTools, ChatRequest, ChosenFunction, FunctionDefinition, NamedTool
from ark.chat.tools.toolbox import Tool, Toolbox
from ark.errors import invalid_value


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
    offered = _offer([tool.function for tool in body.tools], "tools[{}].function")
    choice = body.tool_choice
    chosen, required, parallel = () if choice == "none" else offered, choice == "required", body.parallel_tool_calls
    if isinstance(choice, NamedTool):
        parallel = False
        chosen, required = (_find(offered, choice.function.name, "tool_choice.function.name"),), True
    elif isinstance(choice, AllowedTools):
        subset = choice.allowed_tools
        found = [
            _find(offered, tool.function.name, f"tool_choice.allowed_tools.tools[{i}].function.name")
            for i, tool in enumerate(subset.tools)
        ]
        chosen, required = tuple({tool.name: tool for tool in found}.values()), subset.mode == "required"
    return Toolbox(tools=offered, callable=chosen, required=required, parallel=parallel is not False)


def _read_functions(body: ChatRequest, functions: Sequence[FunctionDefinition]) -> Toolbox:
    offered = _offer(functions, "functions[{}]")
    chosen, required = () if body.function_call == "none" else offered, False
    if isinstance(body.function_call, ChosenFunction):
        chosen, required = (_find(offered, body.function_call.name, "function_call.name"),), True
    return Toolbox(tools=offered, callable=chosen, required=required, parallel=False, legacy=True)


def _offer(functions: Sequence[FunctionDefinition], place: str) -> tuple[Tool, ...]:
    tools: dict[str, Tool] = {}
    for i, function in enumerate(functions):
        where = place.format(i)
        if function.name in tools:
            raise invalid_value(f"{where}.name", f"The name '{function.name}' stands twice.")
        tools[function.name] = Tool(
            name=function.name,
            description=function.description,
            parameters=function.parameters,
            strict=bool(function.strict),
            param=f"{where}.parameters",
        )
    return tuple(tools.values())


def _find(tools: Sequence[Tool], name: str, param: str) -> Tool:
    for tool in tools:
        if tool.name == name:
            return tool
    known = ", ".join(tool.name for tool in tools)
    raise invalid_value(param, f"There is no tool '{name}' in this request; there is: {known}.")
