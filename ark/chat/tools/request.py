"""Which tools a request offers and which of them the model may call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ark.api.chat.tool_schema import (
    AllowedTools,
    ChosenFunction,
    FunctionChoice,
    FunctionDefinition,
    NamedTool,
    ToolChoice,
    ToolDefinition,
)
from ark.errors import BadRequest


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model reads about."""

    definition: FunctionDefinition
    param: str
    """Where the schema of its arguments stands in the request."""

    @property
    def name(self) -> str:
        return self.definition.name


class Toolbox(msgspec.Struct, frozen=True, kw_only=True):
    """The tools of a request that offers any."""

    tools: tuple[Tool, ...]
    """All that the model reads about, in the request's order."""
    callable: tuple[Tool, ...]
    """Those that it may call; none where the request says so. The model reads about them all the same, so that the
    prompt of a conversation stays as it is from turn to turn."""
    required: bool = False
    """The reply is a call, and no text."""
    parallel: bool = True
    """There may be several calls in one reply."""
    legacy: bool = False
    """Asked for with ``functions``: the reply has ``function_call`` instead of ``tool_calls``."""

    @property
    def names(self) -> frozenset[str]:
        """The names that may be called."""
        return frozenset(tool.name for tool in self.callable)

    @property
    def schemas(self) -> dict[str, dict[str, Any]]:
        """The schemas of the arguments of those that may be called, by name."""
        return {tool.name: tool.definition.parameters or {} for tool in self.callable}

    def for_template(self) -> list[dict[str, Any]]:
        """The tools as chat templates read them: OpenAI's form."""
        return [{"type": "function", "function": _plain(tool.definition)} for tool in self.tools]


def toolbox(
    *,
    tools: Sequence[ToolDefinition] | None,
    tool_choice: ToolChoice | None,
    parallel_tool_calls: bool | None,
    functions: Sequence[FunctionDefinition] | None,
    function_call: FunctionChoice | None,
) -> Toolbox | None:
    """What the request says about tools; None where it offers none. Raises BadRequest with `param`."""
    if tools and functions:
        raise _invalid("functions", "'functions' and 'tools' cannot both be sent; 'tools' is the newer one.")
    if functions or not tools:
        if tool_choice not in (None, "none", "auto"):
            raise _invalid("tool_choice", "'tool_choice' is only allowed when 'tools' are specified.")
        return _legacy(functions or (), function_call)
    if function_call not in (None, "none", "auto"):
        raise _invalid("function_call", "'function_call' is only allowed when 'functions' are specified.")
    offered = tuple(
        Tool(definition=tool.function, param=f"tools[{i}].function.parameters") for i, tool in enumerate(tools)
    )
    _check_names(offered, "tools[{}].function.name")
    chosen, required = () if tool_choice == "none" else offered, tool_choice == "required"
    if isinstance(tool_choice, NamedTool):
        chosen, required = (_find(offered, tool_choice.function.name, "tool_choice.function.name"),), True
    elif isinstance(tool_choice, AllowedTools):
        subset = tool_choice.allowed_tools
        places = [f"tool_choice.allowed_tools.tools[{i}].function.name" for i in range(len(subset.tools))]
        wanted = [_find(offered, tool.function.name, place) for tool, place in zip(subset.tools, places, strict=True)]
        chosen = tuple({tool.name: tool for tool in wanted}.values())
        required = subset.mode == "required"
    return Toolbox(tools=offered, callable=chosen, required=required, parallel=parallel_tool_calls is not False)


def _legacy(functions: Sequence[FunctionDefinition], function_call: FunctionChoice | None) -> Toolbox | None:
    if not functions:
        if isinstance(function_call, ChosenFunction):
            raise _invalid("function_call", "'function_call' is only allowed when 'functions' are specified.")
        return None
    offered = tuple(
        Tool(definition=function, param=f"functions[{i}].parameters") for i, function in enumerate(functions)
    )
    _check_names(offered, "functions[{}].name")
    chosen, required = () if function_call == "none" else offered, False
    if isinstance(function_call, ChosenFunction):
        chosen, required = (_find(offered, function_call.name, "function_call.name"),), True
    return Toolbox(tools=offered, callable=chosen, required=required, parallel=False, legacy=True)


def _check_names(tools: Sequence[Tool], place: str) -> None:
    seen: set[str] = set()
    for i, tool in enumerate(tools):
        if tool.name in seen:
            raise _invalid(place.format(i), f"The name '{tool.name}' stands twice.")
        seen.add(tool.name)


def _find(tools: Sequence[Tool], name: str, param: str) -> Tool:
    for tool in tools:
        if tool.name == name:
            return tool
    known = ", ".join(tool.name for tool in tools)
    raise _invalid(param, f"There is no tool '{name}' in this request; there is: {known}.")


def _plain(definition: FunctionDefinition) -> dict[str, Any]:
    """A function as a template reads it: what was not sent is not there."""
    fields = msgspec.structs.asdict(definition)
    plain = {name: value for name, value in fields.items() if value is not None and name != "strict"}
    plain.setdefault("parameters", {"type": "object", "properties": {}})
    return plain


def _invalid(param: str, reason: str) -> BadRequest:
    return BadRequest(f"Invalid '{param}': {reason}", param=param, code="invalid_value")
