"""A turn in the shape of Anthropic's messages: whole, or as events."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from ark.api.messages import schema
from ark.chat.output.processor import Delta
from ark.chat.turn import Turn
from ark.errors import APIError

_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
"""Status to the type of the error; other client errors are of the first type, other errors an ``api_error``."""

Kind = Literal["thinking", "text", "tool_use"]


def encode_error(error: APIError) -> bytes:
    """Anthropic's error object."""
    usual = "invalid_request_error" if error.status < 500 else "api_error"
    body = schema.MessagesErrorBody(type=_ERRORS.get(error.status, usual), message=error.message)
    return msgspec.json.encode(schema.MessagesError(error=body))


def error_event(error: APIError) -> bytes:
    return b"event: error\ndata: " + encode_error(error) + b"\n\n"


class MessageRenderer:
    """Writes a turn's events while it runs, and keeps its blocks for the whole message."""

    def __init__(self, turn: Turn, *, model: str, seal: Callable[[], str]) -> None:
        """`seal` gives the signature of reasoning that has just ended."""
        self._turn = turn
        self._model = model
        self._seal = seal
        self._id = new_id()
        self._blocks: list[schema.TextBlock | schema.ThinkingBlock | schema.ToolUseBlock] = []
        self._kind: Kind | None = None
        """Of the block that is open."""
        self._texts: list[str] = []
        self._call = ("", "")
        """The id and the name of the call that is open."""

    def start(self) -> bytes:
        return _event("message_start", message=self._message(None))

    def delta(self, delta: Delta) -> bytes:
        events = b""
        if delta.reasoning:
            events += self._write("thinking", delta.reasoning)
        if delta.content:
            events += self._write("text", delta.content)
        for call in delta.calls:
            if call.id is not None:
                events += self._end_block()
                self._call = (call.id, call.name or "")
                events += self._begin("tool_use")
            if call.arguments:
                events += self._append(call.arguments)
        return events

    def end(self) -> bytes:
        events = self._end_block()
        reply = self.message()
        stop = {"stop_reason": reply.stop_reason, "stop_sequence": reply.stop_sequence}
        return events + _event("message_delta", delta=stop, usage=reply.usage) + _event("message_stop")

    def message(self) -> schema.MessageReply:
        """The whole message, once all deltas have been written."""
        self._end_block()
        output = self._turn.outputs[0]
        reason: schema.StopReason = "end_turn"
        if output.finish_reason == "length":
            reason = "max_tokens"
        elif output.finish_reason == "tool_calls":
            reason = "tool_use"
        elif output.stop is not None:
            reason = "stop_sequence"
        return self._message(reason)

    def _message(self, reason: schema.StopReason | None) -> schema.MessageReply:
        turn = self._turn
        usage = schema.MessagesUsage(
            input_tokens=turn.prompt_tokens - turn.cached_tokens,
            cache_read_input_tokens=turn.cached_tokens,
            output_tokens=turn.completion_tokens,
        )
        return schema.MessageReply(
            id=self._id,
            model=self._model,
            content=tuple(self._blocks),
            stop_reason=reason,
            stop_sequence=turn.outputs[0].stop if reason == "stop_sequence" else None,
            usage=usage,
        )

    def _write(self, kind: Kind, text: str) -> bytes:
        events = b""
        if self._kind != kind:
            events = self._end_block() + self._begin(kind)
        return events + self._append(text)

    def _begin(self, kind: Kind) -> bytes:
        self._kind = kind
        number, name = self._call
        empty: dict[Kind, Any] = {
            "thinking": schema.ThinkingBlock(thinking="", signature=""),
            "text": schema.TextBlock(text=""),
            "tool_use": schema.ToolUseBlock(id=number, name=name, input={}),
        }
        return _event("content_block_start", index=len(self._blocks), content_block=empty[kind])

    def _append(self, text: str) -> bytes:
        self._texts.append(text)
        deltas: dict[Kind | None, dict[str, str]] = {
            "thinking": {"type": "thinking_delta", "thinking": text},
            "text": {"type": "text_delta", "text": text},
            "tool_use": {"type": "input_json_delta", "partial_json": text},
        }
        return _event("content_block_delta", index=len(self._blocks), delta=deltas[self._kind])

    def _end_block(self) -> bytes:
        kind, text, index, events = self._kind, "".join(self._texts), len(self._blocks), b""
        self._kind, self._texts = None, []
        if kind is None:
            return b""
        if kind == "text":
            self._blocks.append(schema.TextBlock(text=text))
        elif kind == "tool_use":
            self._blocks.append(schema.ToolUseBlock(id=self._call[0], name=self._call[1], input=_arguments(text)))
        else:
            signature = self._seal()
            self._blocks.append(schema.ThinkingBlock(thinking=text, signature=signature))
            delta = {"type": "signature_delta", "signature": signature}
            events = _event("content_block_delta", index=index, delta=delta)
        return events + _event("content_block_stop", index=index)


def new_id() -> str:
    """A name and no secret: it opens nothing."""
    return f"msg_{random.getrandbits(128):032x}"


def _arguments(text: str) -> dict[str, Any]:
    """What a call says; of one that was cut, nothing is known."""
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode({"type": kind, **fields}) + b"\n\n"
