"""The types of /messages, Anthropic's API.

Fields that are not listed are accepted and have no effect (`context_management`, `cache_control`, ...).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ark.api.chat.schema import ShortText
from ark.engines import parameters


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A block of a message's content; which fields there are depends on the type."""

    type: Annotated[str, Meta(max_length=64)]
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    """The exact reasoning, sealed. Empty where a stream ended before it came."""
    id: ShortText | None = None
    name: ShortText | None = None
    input: dict[str, Any] | None = None
    tool_use_id: ShortText | None = None
    content: str | list[Block] | None = None


Blocks = str | Annotated[list[Block], Meta(max_length=4096)]


class InputMessage(msgspec.Struct, frozen=True, kw_only=True):
    role: Literal["user", "assistant", "system"]
    """``system`` as newer clients send it, between the others."""
    content: Blocks


class MessagesTool(msgspec.Struct, frozen=True, kw_only=True):
    """A tool that the client runs. Others, which Anthropic runs or describes, have a `type` of their own."""

    name: ShortText | None = None
    type: Annotated[str, Meta(max_length=64)] | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None


class MessagesToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, frozen=True, kw_only=True):
    type: Literal["enabled", "disabled", "adaptive"]


class CountTokensRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of POST /messages/count_tokens. None means that the field was not sent, or sent as null."""

    model: parameters.Text
    messages: Annotated[list[InputMessage], Meta(min_length=1)]
    system: Blocks | None = None
    tools: Annotated[list[MessagesTool], Meta(max_length=256)] | None = None
    tool_choice: MessagesToolChoice | None = None
    thinking: Thinking | None = None
    """Off, or as the model does; without it as the model does."""


class MessagesRequest(CountTokensRequest, frozen=True, kw_only=True):
    """The body of POST /messages."""

    max_tokens: parameters.TokenCount
    stream: bool | None = None
    stop_sequences: Annotated[list[parameters.StopText], Meta(max_length=16)] | None = None
    temperature: parameters.Temperature | None = None
    top_p: parameters.Probability | None = None
    top_k: parameters.TopK | None = None
    metadata: dict[str, Any] | None = None


class TextBlock(msgspec.Struct, frozen=True, kw_only=True, tag="text", tag_field="type"):
    text: str


class ThinkingBlock(msgspec.Struct, frozen=True, kw_only=True, tag="thinking", tag_field="type"):
    thinking: str
    signature: str
    """The exact reasoning, sealed for the key: it may come back with the next request."""


class ToolUseBlock(msgspec.Struct, frozen=True, kw_only=True, tag="tool_use", tag_field="type"):
    id: str
    name: str
    input: dict[str, Any]


class MessagesUsage(msgspec.Struct, frozen=True, kw_only=True):
    input_tokens: int
    """Of the prompt, those that were computed."""
    cache_read_input_tokens: int
    """Of the prompt, those that were not computed again."""
    output_tokens: int
    cache_creation_input_tokens: int = 0


StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class MessageReply(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    model: str
    content: Sequence[TextBlock | ThinkingBlock | ToolUseBlock]
    stop_reason: StopReason | None
    """None in a stream's first event."""
    stop_sequence: str | None
    usage: MessagesUsage
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"


class InputTokenCount(msgspec.Struct, frozen=True, kw_only=True):
    input_tokens: int


class MessagesErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    message: str


class MessagesError(msgspec.Struct, frozen=True, kw_only=True):
    """Anthropic's error object."""

    error: MessagesErrorBody
    request_id: str | UnsetType = UNSET
    type: Literal["error"] = "error"
