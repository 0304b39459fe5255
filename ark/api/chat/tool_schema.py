"""The types of tools, in a request to /chat/completions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

FunctionName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,64}\Z")]


class FunctionDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """What the model may call."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of the arguments; None for a function without any."""
    strict: bool | None = None
    """The arguments follow the schema whatever happens; without it, as far as the schema can be enforced."""


class ToolDefinition(msgspec.Struct, frozen=True, kw_only=True, tag="function", tag_field="type"):
    function: FunctionDefinition


class ChosenFunction(msgspec.Struct, frozen=True, kw_only=True):
    name: str


class NamedTool(msgspec.Struct, frozen=True, kw_only=True, tag="function", tag_field="type"):
    """``tool_choice``: this function and no other; also an entry of `AllowedTools`."""

    function: ChosenFunction


class ToolSubset(msgspec.Struct, frozen=True, kw_only=True):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Meta(min_length=1, max_length=128)]


class AllowedTools(msgspec.Struct, frozen=True, kw_only=True, tag="allowed_tools", tag_field="type"):
    """``tool_choice``: the model reads all tools and may call these."""

    allowed_tools: ToolSubset


ToolChoice = Literal["none", "auto", "required"] | NamedTool | AllowedTools
FunctionChoice = Literal["none", "auto"] | ChosenFunction
