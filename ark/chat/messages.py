"""A request's messages, checked and brought into the form that chat templates read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ark.errors import BadRequest
from ark.schemas.chat import ChatMessage, RefusalPart, TextPart, ToolCall

TemplateMessage = dict[str, Any]


def to_template(messages: Sequence[ChatMessage]) -> list[TemplateMessage]:
    """Messages as plain dicts: role, content as text, and what else the role has.

    ``developer`` is ``system`` to a template. Raises BadRequest with `param` as ``messages[2].content``.
    """
    return [_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _message(message: ChatMessage, where: str) -> TemplateMessage:
    role = "system" if message.role == "developer" else message.role
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
        if message.content is None and not message.tool_calls and message.refusal is None:
            raise BadRequest(
                f"Invalid '{where}.content': an assistant's message needs content or tool calls.",
                param=f"{where}.content",
                code="invalid_value",
            )
        if message.content is None and message.refusal is not None:
            result["content"] = message.refusal
        if message.reasoning_content:
            result["reasoning_content"] = message.reasoning_content
        if message.tool_calls:
            result["tool_calls"] = [
                _tool_call(call, f"{where}.tool_calls[{n}]") for n, call in enumerate(message.tool_calls)
            ]
    if role == "tool":
        if message.tool_call_id is None:
            raise BadRequest(
                f"Missing required parameter: '{where}.tool_call_id'.",
                param=f"{where}.tool_call_id",
                code="missing_required_parameter",
            )
        result["tool_call_id"] = message.tool_call_id
    return result


def _text(content: str | list[TextPart | RefusalPart] | None) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "\n".join(part.text if isinstance(part, TextPart) else part.refusal for part in content)


def _tool_call(call: ToolCall, where: str) -> dict[str, Any]:
    try:
        arguments = msgspec.json.decode(call.function.arguments or "{}")
    except msgspec.DecodeError as error:
        place = f"{where}.function.arguments"
        raise BadRequest(f"Invalid '{place}': not JSON: {error}.", param=place, code="invalid_value") from error
    # Templates write arguments with `tojson`, so they get the value and not its text.
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    }
