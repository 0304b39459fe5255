"""Tools of a request as those of a chat: namespaces opened, custom tools as functions, hosted ones left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from ark.api.chat.schema import (
    AllowedTools,
    ChosenFunction,
    CustomDefinition,
    CustomFormat,
    CustomToolDefinition,
    FunctionDefinition,
    GrammarDefinition,
    NamedCustomTool,
    NamedTool,
    ToolChoice,
    ToolDefinition,
    ToolSubset,
)
from ark.api.responses.items import visible_name
from ark.api.responses.schema import ChosenTool, ToolSpec
from ark.errors import BadRequest, invalid_value, missing_parameter, shorten

_HOSTED = (
    *("web_search", "file_search", "code_interpreter", "image_generation", "computer", "mcp"),
    *("local_shell", "shell", "apply_patch", "tool_search", "programmatic_tool_calling"),
)
"""What OpenAI's servers run, by what their types begin with."""


class CalledTool(msgspec.Struct, frozen=True):
    """What a call of a tool says of it."""

    name: str
    namespace: str | None = None
    custom: bool = False


@dataclass
class Tools:
    """The tools of a request that have been read."""

    definitions: list[ToolDefinition | CustomToolDefinition] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    """Where in the request each of them stands."""
    called: dict[str, CalledTool] = field(default_factory=dict)
    """By the name by which the model knows it."""
    specs: list[ToolSpec] = field(default_factory=list)
    """Those that are not left out, as they were sent."""
    ignored: list[str] = field(default_factory=list)
    """Types of tools that are not run here."""
    refuse_hosted: bool = False
    """They are refused, not left out."""

    def read(self, specs: Sequence[ToolSpec], place: str = "tools") -> None:
        """Raises BadRequest with `param` as ``tools[0].name``."""
        for index, spec in enumerate(specs):
            where = f"{place}[{index}]"
            if spec.type == "namespace":
                for number, inner in enumerate(spec.tools or ()):
                    self._add(inner, f"{where}.tools[{number}]", _named(spec, where))
            elif spec.type in ("function", "custom"):
                self._add(spec, where, None)
            elif spec.type.startswith(_HOSTED):
                if self.refuse_hosted:
                    raise _not_run(f"{where}.type", spec.type)
                self.ignored.append(spec.type)
                continue
            else:
                raise invalid_value(f"{where}.type", f"There are no tools of the type '{shorten(spec.type)}'.")
            self.specs.append(spec)

    def choice(self, chosen: Literal["none", "auto", "required"] | ChosenTool | None) -> ToolChoice | None:
        """The choice as a chat's. Raises BadRequest for a tool that is not run here."""
        if chosen is None or isinstance(chosen, str):
            # Without any tool that is left there is nothing to choose.
            return chosen if self.definitions or chosen == "required" else None
        if chosen.type != "allowed_tools":
            return self._find(chosen, "tool_choice")
        entries: list[NamedTool | NamedCustomTool] = [
            self._find(entry, f"tool_choice.tools[{index}]")
            for index, entry in enumerate(chosen.tools or ())
            if not entry.type.startswith(_HOSTED)
        ]
        if not entries:
            raise invalid_value("tool_choice.tools", "None of these tools is run here.", code="unsupported_tool")
        return AllowedTools(allowed_tools=ToolSubset(mode=chosen.mode or "auto", tools=entries))

    def echo(self) -> list[dict[str, Any]]:
        """The tools as a response names them."""
        return [_echo(spec) for spec in self.specs]

    def _add(self, spec: ToolSpec, where: str, namespace: str | None) -> None:
        name = visible_name(_named(spec, where), namespace)
        if name in self.called:
            raise invalid_value(f"{where}.name", f"The name '{name}' stands twice.")
        if spec.type == "custom":
            custom = CustomDefinition(name=name, description=spec.description, format=_format(spec, where))
            self.definitions.append(CustomToolDefinition(custom=custom))
        elif spec.type == "function":
            function = FunctionDefinition(
                name=name, description=spec.description, parameters=spec.parameters, strict=bool(spec.strict)
            )
            self.definitions.append(ToolDefinition(function=function))
        else:
            raise invalid_value(f"{where}.type", f"A namespace has no tools of the type '{shorten(spec.type)}'.")
        self.places.append(where)
        self.called[name] = CalledTool(spec.name or "", namespace, spec.type == "custom")

    def _find(self, chosen: ChosenTool, place: str) -> NamedTool:
        if chosen.type.startswith(_HOSTED):
            raise _not_run(place, chosen.type)
        if chosen.type not in ("function", "custom"):
            raise invalid_value(f"{place}.type", f"There are no tools of the type '{shorten(chosen.type)}'.")
        if chosen.name is None:
            raise missing_parameter(f"{place}.name")
        name = visible_name(chosen.name, chosen.namespace)
        if name not in self.called:
            known = ", ".join(self.called) or "none"
            raise invalid_value(
                f"{place}.name", f"There is no tool '{shorten(name)}' in this request; there is: {known}."
            )
        return NamedTool(function=ChosenFunction(name=name))


def _not_run(place: str, kind: str) -> BadRequest:
    return invalid_value(place, f"Tools of the type '{shorten(kind)}' are not run here.", code="unsupported_tool")


def _named(spec: ToolSpec, where: str) -> str:
    if spec.name is None:
        raise missing_parameter(f"{where}.name")
    return spec.name


def _format(spec: ToolSpec, where: str) -> CustomFormat | None:
    form = spec.format
    if form is None or form.type == "text":
        return None
    if form.definition is None or form.syntax is None:
        raise missing_parameter(f"{where}.format.{'definition' if form.syntax else 'syntax'}")
    return CustomFormat(type="grammar", grammar=GrammarDefinition(syntax=form.syntax, definition=form.definition))


def _echo(spec: ToolSpec) -> dict[str, Any]:
    said: dict[str, Any] = msgspec.to_builtins(spec)
    if spec.type == "function":
        said = {"description": None, "parameters": None, "strict": bool(spec.strict)} | said
    elif spec.type == "namespace":
        said["tools"] = [_echo(inner) for inner in spec.tools or ()]
    return said
