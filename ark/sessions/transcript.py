"""The transcript of a conversation: its messages and the exact token ids."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import msgspec

from ark.sessions.messages import Message

How = Literal["created", "continued", "rewound", "stateless"]

TOKEN_BYTES = 4
_SEAM_BYTES = 160


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
class Past:
    """What a request continues: the answer of a session to the request's messages."""

    messages: tuple[Message, ...]
    """All visible messages, those of the request included."""
    transcript: Transcript | None = None
    """What the first `kept` messages come from."""
    kept: int = 0
    how: How = "created"


def pack_tokens(ids: Iterable[int]) -> bytes:
    """Ids as unsigned 32-bit integers of this machine's byte order."""
    return array("I", ids).tobytes()


def unpack_tokens(tokens: bytes, start: int = 0, end: int | None = None) -> list[int]:
    """The ids from index `start` up to `end`."""
    stop = None if end is None else end * TOKEN_BYTES
    return memoryview(tokens)[start * TOKEN_BYTES : stop].cast("I").tolist()


def common_tokens(one: bytes, other: bytes) -> int:
    """How many leading ids two transcripts share."""
    low, high = 0, min(len(one), len(other)) // TOKEN_BYTES
    # Halving compares slices at the speed of memcmp; a loop over 100,000 ids would hold the event loop up.
    while low < high:
        middle = (low + high + 1) // 2
        span = slice(low * TOKEN_BYTES, middle * TOKEN_BYTES)
        if one[span] == other[span]:
            low = middle
        else:
            high = middle - 1
    return low
