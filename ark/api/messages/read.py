"""A request as the chat that it amounts to."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ark.api.chat.parameters import read_messages
from ark.api.chat.schema import (
    ChatMessage,
    ChatRequest,
    ChosenFunction,
    CustomToolDefinition,
    FunctionCall,
    FunctionDefinition,
    NamedTool,
    ToolCall,
    ToolDefinition,
)
from ark.api.messages.schema import Block, Blocks, CountTokensRequest, InputMessage, MessagesRequest
from ark.api.own_names import Names, own_names
from ark.api.reasoning import SealedReasoning
from ark.errors import BadRequest, invalid_value, missing_parameter, shorten
from ark.sessions.transcript import Message

NAMES: Names = (
    (re.compile(r"^max_completion_tokens$"), "max_tokens"),
    (re.compile(r"^stop$"), "stop_sequences"),
    (re.compile(r"^reasoning_effort$"), "thinking"),
)

Unseal = Callable[[str], SealedReasoning]
"""Raises ValueError for what was not sealed here, and for this key."""

BILLING = "x-anthropic-billing-header:"
"""How Claude Code begins a system prompt, with a number that differs in each request. It says nothing to a model, and
every token behind it would have to be computed again."""

_IGNORED = frozenset({"redacted_thinking", "server_tool_use", "web_search_tool_result", "web_fetch_tool_result"})
"""Blocks that say nothing to a model here."""


@dataclass
class Reading:
    """What a request says, before a model is asked for."""

    history: tuple[Message, ...] = ()
    """The messages as templates read them, once all are there."""
    messages: list[ChatMessage] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    """Where in the request each message comes from."""
    sealed: dict[int, SealedReasoning] = field(default_factory=dict)
    """What the signatures of replies hold, by the message's index."""
    tools: list[ToolDefinition | CustomToolDefinition] = field(default_factory=list)
    tool_places: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    """What has no effect, by its type."""

    def add(self, place: str, message: ChatMessage) -> None:
        self.messages.append(message)
        self.places.append(place)


def read(body: CountTokensRequest, unseal: Unseal) -> Reading:
    """Raises BadRequest with `param` as ``messages[2].content[0]``."""
    found = Reading()
    system = _text(body.system, "system") if body.system is not None else ""
    if system:
        found.add("system", ChatMessage(role="system", content=system))
    for index, message in enumerate(body.messages):
        place = f"messages[{index}]"
        if message.role == "system":
            found.add(place, ChatMessage(role="system", content=_text(message.content, f"{place}.content")))
        elif message.role == "user":
            _read_user(message, place, found)
        else:
            _read_reply(message, place, found, unseal)
    for index, tool in enumerate(body.tools or ()):
        if tool.type not in (None, "custom"):
            found.ignored.append(tool.type)
            continue
        if tool.name is None:
            raise missing_parameter(f"tools[{index}].name")
        function = FunctionDefinition(
            name=tool.name, description=tool.description, parameters=tool.input_schema, strict=tool.strict
        )
        found.tools.append(ToolDefinition(function=function))
        found.tool_places.append(f"tools[{index}]")
    with own_names(found.places, found.tool_places, NAMES):
        found.history = read_messages(found.messages)
    return found


def chat_request(body: CountTokensRequest, found: Reading) -> ChatRequest:
    """The chat that a request amounts to. Raises BadRequest."""
    fields: dict[str, Any] = {}
    if isinstance(body, MessagesRequest):
        fields = {
            "max_completion_tokens": body.max_tokens,
            "stream": body.stream,
            "stop": body.stop_sequences,
            "temperature": body.temperature,
            "top_p": body.top_p,
            "top_k": body.top_k,
        }
    if body.thinking is not None:
        fields["reasoning_effort"] = "none" if body.thinking.type == "disabled" else "medium"
    if body.tool_choice is not None and found.tools:
        choice = body.tool_choice
        names: dict[str, Any] = {"auto": "auto", "any": "required", "none": "none"}
        fields["tool_choice"] = names.get(choice.type)
        if choice.type == "tool":
            if choice.name is None:
                raise missing_parameter("tool_choice.name")
            fields["tool_choice"] = NamedTool(function=ChosenFunction(name=choice.name))
        fields["parallel_tool_calls"] = False if choice.disable_parallel_tool_use else None
    elif body.tool_choice is not None and body.tool_choice.type in ("any", "tool"):
        raise invalid_value("tool_choice", "There is no tool here that the model may call.")
    return ChatRequest(model=body.model, messages=found.messages, tools=found.tools or None, **fields)


def _read_user(message: InputMessage, place: str, found: Reading) -> None:
    """Results of tools are messages of their own, in their order with the text."""
    if isinstance(message.content, str):
        found.add(place, ChatMessage(role="user", content=message.content))
        return
    texts: list[str] = []
    first = place

    def flush() -> None:
        if texts:
            found.add(first, ChatMessage(role="user", content="\n".join(texts)))
            texts.clear()

    for index, block in enumerate(message.content):
        where = f"{place}.content[{index}]"
        if block.type == "tool_result":
            flush()
            if block.tool_use_id is None:
                raise missing_parameter(f"{where}.tool_use_id")
            content = _text(block.content or "", f"{where}.content")
            found.add(where, ChatMessage(role="tool", tool_call_id=block.tool_use_id, content=content))
            continue
        if not texts:
            first = where
        texts += _block_text(block, where)
    flush()


def _read_reply(message: InputMessage, place: str, found: Reading, unseal: Unseal) -> None:
    if isinstance(message.content, str):
        found.add(place, ChatMessage(role="assistant", content=message.content))
        return
    texts: list[str] = []
    thinking: list[str] = []
    calls: list[ToolCall] = []
    for index, block in enumerate(message.content):
        where = f"{place}.content[{index}]"
        if block.type == "thinking":
            text = block.thinking or ""
            if block.signature and not texts and not calls:
                sealed = _open(block.signature, unseal, f"{where}.signature")
                found.sealed[len(found.messages)], text = sealed, sealed.text
            thinking.append(text)
        elif block.type == "tool_use":
            calls.append(_call(block, where))
        elif block.type in _IGNORED:
            found.ignored.append(block.type)
        else:
            texts += _block_text(block, where)
    content = "".join(texts) if texts or not calls else None
    reasoning = "\n".join(thinking) or None
    found.add(
        place,
        ChatMessage(role="assistant", content=content, reasoning_content=reasoning, tool_calls=calls or None),
    )


def _open(signature: str, unseal: Unseal, place: str) -> SealedReasoning:
    try:
        return unseal(signature)
    except ValueError as error:
        reason = "It was not made by this server, or not for this key. Leave the block out."
        raise invalid_value(place, reason, code="invalid_signature") from error


def _call(block: Block, place: str) -> ToolCall:
    if block.id is None:
        raise missing_parameter(f"{place}.id")
    if block.name is None:
        raise missing_parameter(f"{place}.name")
    arguments = json.dumps(block.input or {}, ensure_ascii=False)
    return ToolCall(id=block.id, function=FunctionCall(name=block.name, arguments=arguments))


def _text(content: Blocks, place: str) -> str:
    """The text of a system prompt or of a tool's result."""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for index, block in enumerate(content):
        texts += _block_text(block, f"{place}[{index}]")
    return "\n".join(texts)


def _block_text(block: Block, place: str) -> Sequence[str]:
    if block.type != "text":
        raise BadRequest(
            f"Invalid '{place}.type': blocks of the type '{shorten(block.type)}' are not read here.",
            param=f"{place}.type",
            code="invalid_value",
        )
    if block.text is None:
        raise missing_parameter(f"{place}.text")
    return () if block.text.startswith(BILLING) else (block.text,)
