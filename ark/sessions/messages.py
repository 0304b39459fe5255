"""Messages, and when two of them are the same to a client."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

SYSTEM_ROLES = frozenset({"system", "developer"})
REASONING_FIELDS = ("reasoning_content", "reasoning")

_OVERHEAD = 64
_encode = msgspec.json.Encoder(order="sorted").encode


class Message(msgspec.Struct, frozen=True):
    """One message of a conversation, in the form that chat templates read. Its data is never changed."""

    data: Mapping[str, Any]
    digest: bytes
    """Of what a client can see: two messages with the same digest are the same message."""
    size: int
    """Bytes that count against the store's limit."""

    @property
    def is_system(self) -> bool:
        return self.data.get("role") in SYSTEM_ROLES

    def without_reasoning(self) -> Mapping[str, Any]:
        if not any(field in self.data for field in REASONING_FIELDS):
            return self.data
        return {key: value for key, value in self.data.items() if key not in REASONING_FIELDS}


def read_message(data: Mapping[str, Any]) -> Message:
    """A message from its plain form, which must be JSON; the mapping is kept, not copied."""
    digest = blake2b(_encode(_visible(data)), digest_size=16).digest()
    return Message(data, digest, len(_encode(data)) + _OVERHEAD)


def read_messages(messages: Iterable[Mapping[str, Any]]) -> tuple[Message, ...]:
    """Messages from their plain form."""
    return tuple(read_message(data) for data in messages)


def common_messages(one: Sequence[Message], other: Sequence[Message]) -> int:
    """How many leading messages are the same to a client."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine.digest != theirs.digest:
            break
        count += 1
    return count


def _visible(data: Mapping[str, Any]) -> list[Any]:
    role = data.get("role")
    return [
        # `developer` is OpenAI's newer name of the same role, and clients change between the two.
        "system" if role in SYSTEM_ROLES else role,
        _text(data.get("content")),
        data.get("name"),
        data.get("tool_call_id"),
        [_tool_call(call) for call in data.get("tool_calls") or ()],
    ]


def _text(content: Any) -> Any:
    """None, "", and a list without text are the same; text parts are the same as their text."""
    if content is None:
        return ""
    if not isinstance(content, (list, tuple)):
        return content
    texts = [part["text"] for part in content if _is_text(part)]
    return "\n".join(texts) if len(texts) == len(content) else list(content)


def _is_text(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _tool_call(call: Mapping[str, Any]) -> list[Any]:
    function = call.get("function") or {}
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        # Templates want an object where clients send its JSON text; both are the same call.
        with contextlib.suppress(ValueError):
            arguments = json.loads(arguments)
    return [call.get("id"), function.get("name"), arguments]
