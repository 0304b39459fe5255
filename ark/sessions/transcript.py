"""Transcripts: the messages that a client sees, and the exact token ids that the model has read and written."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal

import msgspec

SYSTEM_ROLES = frozenset({"system", "developer"})
REASONING_FIELDS = ("reasoning_content", "reasoning")

EDGE = 64
"""Characters kept of the end of a base."""

TOKEN_BYTES = 4
_MESSAGE_BYTES = 320
"""What a message takes in memory beside its JSON; the next is the size of a seam and of
the places where its reply is found."""
_SEAM_BYTES = 640

_PARSED = 50_000
"""Arrays and objects in the arguments of a message's calls up to which their text is read as what it says."""

_NO_CALLS: Mapping[Any, int] = {}

_encode = msgspec.json.Encoder(order="sorted").encode


class Message(msgspec.Struct, frozen=True):
    """One message of a conversation, in the form that chat templates read. Its data is never changed."""

    data: Mapping[str, Any]
    digest: bytes
    """Of what a client can see of the conversation up to this message: where two are equal, all before them is too."""
    calls: Mapping[Any, int]
    """Id to place of the calls that a tool's result behind this message may answer."""
    size: int
    """Bytes that count against the store's limit."""

    @property
    def is_system(self) -> bool:
        return self.data.get("role") in SYSTEM_ROLES

    def without_reasoning(self) -> Mapping[str, Any]:
        if not any(field in self.data for field in REASONING_FIELDS):
            return self.data
        return {key: value for key, value in self.data.items() if key not in REASONING_FIELDS}


def read_message(data: Mapping[str, Any], before: Message | None = None) -> Message:
    """A message from its plain form, which must be JSON, behind another. The mapping is kept, not copied."""
    visible, calls = _visible(data), _NO_CALLS
    if data.get("role") == "tool":
        calls = calls if before is None else before.calls
        number = data.get("tool_call_id")
        # Clients give calls ids of their own, so a result is known by the place of its call.
        visible[3] = calls.get(number, number)
    elif data.get("tool_calls"):
        calls = {call.get("id"): place for place, call in enumerate(data["tool_calls"])}
    past = b"" if before is None else before.digest
    digest = blake2b(past + _encode(visible), digest_size=16).digest()
    return Message(data, digest, calls, len(_encode(data)) + _MESSAGE_BYTES)


def read_messages(messages: Iterable[Mapping[str, Any]], before: Message | None = None) -> tuple[Message, ...]:
    """Messages from their plain form, behind another."""
    read = []
    for data in messages:
        before = read_message(data, before)
        read.append(before)
    return tuple(read)


def common_messages(one: Sequence[Message], other: Sequence[Message]) -> int:
    """How many leading messages are the same to a client."""
    return _common(min(len(one), len(other)), lambda _, end: one[end - 1].digest == other[end - 1].digest)


def _visible(data: Mapping[str, Any]) -> list[Any]:
    role, calls = data.get("role"), data.get("tool_calls") or ()
    texts = [text for call in calls if isinstance(text := (call.get("function") or {}).get("arguments"), str)]
    parse = sum(text.count("[") + text.count("{") for text in texts) <= _PARSED
    return [
        # `developer` is OpenAI's newer name of the same role, and clients change between the two.
        "system" if role in SYSTEM_ROLES else role,
        _text(data.get("content")),
        data.get("name"),
        data.get("tool_call_id"),
        [_tool_call(call, parse) for call in calls],
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


def _tool_call(call: Mapping[str, Any], parse: bool) -> list[Any]:
    function = call.get("function") or {}
    arguments = function.get("arguments")
    if parse and isinstance(arguments, str):
        # Templates want an object where clients send its JSON text; both are the same call.
        with contextlib.suppress(ValueError, RecursionError):
            arguments = msgspec.json.decode(arguments)
    return [function.get("name"), arguments]


How = Literal["created", "continued", "rewound", "stateless"]


class Seam(msgspec.Struct, frozen=True, array_like=True):
    """Where a reply stands in its transcript, and what the template wrote before it.

    The *base* of a reply is the template's text of all messages before it, without the prompt that opens the reply.
    As long as a new rendering still begins with that text, the tokens up to the end of the reply are still right.
    """

    message: int
    """Index of the reply among the messages."""
    start: int
    """Index of the first token after the base, where the opening of the reply begins; -1 when a token spans it."""
    end: int
    """Index after the reply's last token."""
    stopped: bool
    """The last token is a stop id, which no text of the reply belongs to."""
    base_length: int
    """Characters of the base."""
    base_digest: bytes
    edge: str
    """The last characters of the base: they find its end again in a rendering that has changed before it."""

    @classmethod
    def behind(cls, base: str, *, message: int, start: int, end: int, stopped: bool) -> Seam:
        """The seam of a reply whose base is `base`."""
        digest = blake2b(base.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return cls(message, start, end, stopped, len(base), digest, base[-EDGE:])


@dataclass(frozen=True)
class Transcript:
    """An immutable value: a turn makes a new one, so whoever holds one can go on reading it."""

    model: str
    """The served name of the one model that the conversation belongs to."""
    fingerprint: str
    """Of the tokenizer that gave the ids; under another one they mean nothing."""
    messages: tuple[Message, ...]
    tokens: bytes
    """Ids as `pack_tokens` writes them."""
    seams: tuple[Seam, ...]
    """One for each reply whose tokens are the model's own, in order."""

    @property
    def length(self) -> int:
        """Number of tokens."""
        return len(self.tokens) // TOKEN_BYTES

    @cached_property
    def size(self) -> int:
        """Bytes that count against the store's limit."""
        messages = sum(message.size for message in self.messages)
        return messages + len(self.tokens) + _SEAM_BYTES * len(self.seams)


@dataclass(frozen=True)
class Continuation:
    """A conversation as a request continues it."""

    messages: tuple[Message, ...]
    """All visible messages: `kept` ones of `transcript`, then those that are new."""
    transcript: Transcript | None = None
    kept: int = 0
    how: How = "created"

    @property
    def replies(self) -> int:
        """How many of the kept messages are replies of the model's own tokens."""
        seams = () if self.transcript is None else self.transcript.seams
        return sum(seam.message < self.kept for seam in seams)


def pack_tokens(ids: Iterable[int]) -> bytes:
    """Ids as unsigned 32-bit integers of this machine's byte order."""
    return array("I", ids).tobytes()


def unpack_tokens(tokens: bytes, start: int = 0, end: int | None = None) -> list[int]:
    """The ids from index `start` up to `end`."""
    stop = None if end is None else end * TOKEN_BYTES
    return memoryview(tokens)[start * TOKEN_BYTES : stop].cast("I").tolist()


def common_tokens(one: bytes, other: bytes) -> int:
    """How many leading ids two transcripts share."""

    def same(start: int, end: int) -> bool:
        span = slice(start * TOKEN_BYTES, end * TOKEN_BYTES)
        return one[span] == other[span]

    # Comparing slices is as fast as memcmp; a loop over 100,000 ids would hold the event loop up.
    return _common(min(len(one), len(other)) // TOKEN_BYTES, same)


def _common(count: int, same: Callable[[int, int], bool]) -> int:
    """How many of `count` leading things are the same, by halving. `same` compares those from a start, before which all
    are, up to an end."""
    low, high = 0, count
    while low < high:
        middle = (low + high + 1) // 2
        if same(low, middle):
            low = middle
        else:
            high = middle - 1
    return low
