"""A request's messages, checked and brought into the form that chat templates read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ark.api.chat.schema import ChatMessage, FunctionCall, RefusalPart, TextPart, ToolCall
from ark.errors import BadRequest, shorten
from ark.sessions.transcript import Message

TemplateMessage = dict[str, Any]


def to_template(messages: Sequence[ChatMessage]) -> list[TemplateMessage]:
    """Messages as plain dicts: role, content as text, and what else the role has.

    ``developer`` is ``system`` to a template, and functions, which came before tools, are tools. Raises BadRequest with
    `param` as ``messages[2].content``.
    """
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


_ROLES = {"developer": "system", "function": "tool"}


def _message(message: ChatMessage, where: str) -> TemplateMessage:
    role = _ROLES.get(message.role, message.role)
    result: TemplateMessage = {"role": role, "content": _text(message.content)}
    if message.content is None and role != "assistant":
        raise BadRequest(
            f"Invalid '{where}.content': a message of the role '{message.role}' needs content.",
            param=f"{where}.content",
            code="invalid_value",
        )
    if message.name is not None:
        result["name"] = message.name
    if role == "assistant":
        calls = [
            *(_tool_call(call, f"{where}.tool_calls[{n}]") for n, call in enumerate(message.tool_calls or ())),
            *([] if message.function_call is None else [_function_call(message.function_call, where)]),
        ]
        if message.content is None and not calls and message.refusal is None:
            raise BadRequest(
                f"Invalid '{where}.content': an assistant's message needs content or tool calls.",
                param=f"{where}.content",
                code="invalid_value",
            )
        if message.content is None and message.refusal is not None:
            result["content"] = message.refusal
        if message.reasoning_content:
            result["reasoning_content"] = message.reasoning_content
        if calls:
            result["tool_calls"] = calls
    if message.role == "tool":
        result["tool_call_id"] = _required(message.tool_call_id, f"{where}.tool_call_id")
    if message.role == "function":
        result["tool_call_id"] = _function_call_id(_required(message.name, f"{where}.name"))
    return result


def check_results(messages: Sequence[Message], sent: int) -> None:
    """Check that each tool's result answers a call of the assistant's message before it.

    `messages` are the whole conversation, of which the request sent the last `sent`. Raises BadRequest. A call without
    a result is no mistake: clients interrupt tools, and models read such a history.
    """
    calls: set[Any] = set()
    for index, message in enumerate(messages, sent - len(messages)):
        data = message.data
        if data.get("role") != "tool":
            calls = {call.get("id") for call in data.get("tool_calls") or ()}
            continue
        number = data.get("tool_call_id")
        # The results of functions, which came before tools, name no call.
        if index < 0 or number in calls or number == _function_call_id(data.get("name") or ""):
            continue
        place = f"messages[{index}].tool_call_id"
        raise BadRequest(
            f"Invalid '{place}': a message of the role 'tool' answers a call in the 'tool_calls' of the assistant's "
            f"message before it; there is none with the id '{shorten(str(number))}'.",
            param=place,
            code="invalid_value",
        )


def reply_message(content: str, reasoning: str, calls: Sequence[ToolCall], *, legacy: bool = False) -> TemplateMessage:
    """A reply in the form of the request's messages, as it will come back when the client sends it."""
    message: TemplateMessage = {"role": "assistant", "content": content}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [_written(call, legacy) for call in (calls[:1] if legacy else calls)]
    return message


def _written(call: ToolCall, legacy: bool) -> dict[str, Any]:
    try:
        arguments = msgspec.json.decode(call.function.arguments)
    except (msgspec.DecodeError, RecursionError):
        # Cut by the length. It cannot come back as a call; templates write the text as it is.
        arguments = call.function.arguments
    name = call.function.name
    number = _function_call_id(name) if legacy else call.id
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}


def _required(value: str | None, place: str) -> str:
    if value is None:
        raise BadRequest(f"Missing required parameter: '{place}'.", param=place, code="missing_required_parameter")
    return value


def _text(content: str | list[TextPart | RefusalPart] | None) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "\n".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)


def _tool_call(call: ToolCall, where: str) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": _function(call.function, f"{where}.function")}


def _function_call(call: FunctionCall, where: str) -> dict[str, Any]:
    function = _function(call, f"{where}.function_call")
    return {"id": _function_call_id(call.name), "type": "function", "function": function}


def _function_call_id(name: str) -> str:
    """Functions have no ids; a result belongs to the call of the same name."""
    return f"call_{name}"


def _function(function: FunctionCall, where: str) -> dict[str, Any]:
    try:
        arguments = msgspec.json.decode(function.arguments or "{}")
    except (msgspec.DecodeError, RecursionError) as error:
        place = f"{where}.arguments"
        raise BadRequest(f"Invalid '{place}': not JSON: {error}.", param=place, code="invalid_value") from error
    # Templates write arguments with `tojson`, so they get the value and not its text.
    return {"name": function.name, "arguments": arguments}
