"""The tools of a request."""

from __future__ import annotations

from typing import Any

import msgspec


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model reads about."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of the arguments; None for a function without any."""
    strict: bool = False
    """The arguments follow the schema whatever happens; otherwise as far as the schema can be enforced."""
    param: str
    """Where the schema stands in the request."""
    custom: bool = False
    """Its input is text, which its one argument has."""
    lark: str | None = None
    """The grammar of that text."""

    def for_template(self) -> dict[str, Any]:
        """The tool as chat templates read it: OpenAI's form."""
        function: dict[str, Any] = {"name": self.name}
        if self.description is not None:
            function["description"] = self.description
        function["parameters"] = {"type": "object", "properties": {}} if self.parameters is None else self.parameters
        return {"type": "function", "function": function}


class Toolbox(msgspec.Struct, frozen=True, kw_only=True):
    """The tools of a request that offers any."""

    tools: tuple[Tool, ...]
    """All that the model reads about, in the request's order."""
    callable: tuple[Tool, ...]
    """Those that it may call; none where the request says so. The model reads about them all the same, so that the
    prompt of a conversation stays as it is from turn to turn."""
    required: bool = False
    """The reply is calls, and no text. It ends before a call that repeats another: a model that can say nothing else
    may go on calling until its tokens are used up."""
    parallel: bool = True
    """There may be several calls in one reply."""
    legacy: bool = False
    """The request says ``functions``, which came before ``tools``: a reply has one call, without an id."""

    @property
    def custom_names(self) -> frozenset[str]:
        return frozenset(tool.name for tool in self.tools if tool.custom)


def call_for_template(number: str, name: str, arguments: str) -> dict[str, Any]:
    """A call as chat templates read it, with the value of its arguments, for they write it with ``tojson``. Arguments
    that are no JSON, as when the reply's length cut them, stay text, and `ark.chat.prompt.verbatim` has them written as
    they are."""
    try:
        value = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        value = arguments
    function = {"name": name, "arguments": arguments if isinstance(value, str) else value}
    return {"id": number, "type": "function", "function": function}


def function_call_id(name: str) -> str:
    """The id of a call in ``functions``, which have none: a result belongs to the call of the same name."""
    return f"call_{name}"
