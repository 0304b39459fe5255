"""The messages of a request, checked and brought into the form that chat templates read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ark.api.chat.schema import ChatMessage, FunctionCall, TextPart
from ark.chat.tools.toolbox import function_call_id
from ark.errors import BadRequest, invalid_value
from ark.sessions.transcript import Message, read_message

_ROLES = {"developer": "system", "function": "tool"}
"""What templates call them: functions, which came before tools, are tools."""


def read_messages(messages: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """Messages as templates read them. Raises BadRequest with `param` as ``messages[2].content``."""
    return tuple(read_message(_read(message, f"messages[{index}]")) for index, message in enumerate(messages))


def _read(message: ChatMessage, where: str) -> dict[str, Any]:
    role = _ROLES.get(message.role, message.role)
    content = message.content
    if content is None and role != "assistant":
        raise invalid_value(f"{where}.content", f"a message of the role '{message.role}' needs content.")
    if content is not None and not isinstance(content, str):
        content = "\n".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)
    result: dict[str, Any] = {"role": role, "content": content or ""}
    if message.name is not None:
        result["name"] = message.name
    if role == "assistant":
        calls = _calls(message, where)
        if content is None and not calls and message.refusal is None:
            raise invalid_value(f"{where}.content", "an assistant's message needs content or tool calls.")
        if content is None and message.refusal is not None:
            result["content"] = message.refusal
        if message.reasoning_content:
            result["reasoning_content"] = message.reasoning_content
        if calls:
            result["tool_calls"] = calls
    if message.role == "tool":
        result["tool_call_id"] = _required(message.tool_call_id, f"{where}.tool_call_id")
    if message.role == "function":
        result["tool_call_id"] = function_call_id(_required(message.name, f"{where}.name"))
    return result


def _calls(message: ChatMessage, where: str) -> list[dict[str, Any]]:
    calls = [
        _call(call.id, call.function, f"{where}.tool_calls[{number}].function")
        for number, call in enumerate(message.tool_calls or ())
    ]
    if (function := message.function_call) is not None:
        calls.append(_call(function_call_id(function.name), function, f"{where}.function_call"))
    return calls


def _call(id: str, function: FunctionCall, where: str) -> dict[str, Any]:
    try:
        arguments = msgspec.json.decode(function.arguments or "{}")
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid_value(f"{where}.arguments", f"not JSON: {error}.") from error
    # Templates write arguments with `tojson`, so they get the value and not its text.
    return {"id": id, "type": "function", "function": {"name": function.name, "arguments": arguments}}


def _required(value: str | None, place: str) -> str:
    if value is None:
        raise BadRequest(f"Missing required parameter: '{place}'.", param=place, code="missing_required_parameter")
    return value
