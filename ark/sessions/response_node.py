"""What is stored of a response or of a chat completion, in memory and on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from ark.sessions.transcript import TOKEN_BYTES, Message, Seam, Transcript, common_tokens

_NODE_BYTES = 1024
"""What a response takes in memory beside what it holds."""

Kind = Literal["response", "completion"]


class Record(msgspec.Struct, array_like=True, eq=False, kw_only=True):
    """What is written to disk. Without a `fingerprint` there is no conversation that could be continued."""

    owner: str
    created: float
    body: bytes
    """The response as it was sent."""
    items: list[bytes]
    """The items of its input, then those of its output, each as JSON. Of a completion, the messages of its request."""
    inputs: int
    """How many of them are of its input."""
    kind: Kind = "response"
    readable: bool = True
    """It can be asked for and continued. Of others only the tokens are kept, for the responses behind them."""
    instructed: bool = False
    """The conversation's first message is the response's `instructions`."""
    parent: str = ""
    """The id of the response before it."""
    kept: tuple[int, int, int] = (0, 0, 0)
    """How many of the parent's messages, tokens and seams the conversation begins with; what follows is its own."""
    model: str = ""
    fingerprint: str = ""
    messages: tuple[Message, ...] = ()
    tokens: bytes = b""
    seams: tuple[Seam, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that count against the limits."""
        messages = sum(message.size for message in self.messages)
        return _NODE_BYTES + messages + len(self.tokens) + len(self.body) + sum(map(len, self.items))


encode_record = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


@dataclass(eq=False, slots=True)
class Node:
    """A stored response among the others."""

    id: str
    record: Record
    parent: Node | None = None
    key: str = ""
    """Names its state in the backend; empty where another response has taken it over."""
    children: int = 0

    def attach(self, parent: Node | None, whole: Transcript) -> None:
        """Give the response a conversation, which has most of its parent's."""
        record, kept = self.record, (0, 0, 0)
        if parent is not None:
            before = parent.transcript()
            tokens = common_tokens(before.tokens, whole.tokens)
            kept = _common(before.messages, whole.messages), tokens, _common(before.seams, whole.seams)
        self.parent, record.parent, record.kept = parent, "" if parent is None else parent.id, kept
        record.model, record.fingerprint = whole.model, whole.fingerprint
        record.messages, record.seams = whole.messages[kept[0] :], whole.seams[kept[2] :]
        record.tokens = whole.tokens[kept[1] * TOKEN_BYTES :]

    def transcript(self) -> Transcript:
        """The whole conversation."""
        chain: list[Record] = []
        node: Node | None = self
        while node is not None:
            chain.append(node.record)
            node = node.parent
        messages: list[Message] = []
        tokens = bytearray()
        seams: list[Seam] = []
        for one in reversed(chain):
            kept_messages, kept_tokens, kept_seams = one.kept
            del messages[kept_messages:], tokens[kept_tokens * TOKEN_BYTES :], seams[kept_seams:]
            messages += one.messages
            tokens += one.tokens
            seams += one.seams
        last = self.record
        return Transcript(last.model, last.fingerprint, tuple(messages), bytes(tokens), tuple(seams))


@dataclass(eq=False)
class Link:
    """A client's connection, on which the latest response can be continued whether it was stored or not."""

    latest: Node | None = None


def read_record(data: bytes) -> Record:
    """What was written to disk. Raises DecodeError."""
    record = _decode(data)
    if not record.fingerprint:
        record.body = _broken_off(record.body)
    return record


def _common(one: Sequence[Any], other: Sequence[Any]) -> int:
    return next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a is not b and a != b),
        min(len(one), len(other)),
    )


def _broken_off(body: bytes) -> bytes:
    """A response that was not finished when the process ended."""
    fields = msgspec.json.decode(body) if body else {}
    if fields.get("status") not in ("queued", "in_progress"):
        return body
    error = {"code": "server_error", "message": "The server was stopped."}
    return msgspec.json.encode(fields | {"status": "failed", "error": error})


class _Identified(msgspec.Struct):
    id: str


_read_id = msgspec.json.Decoder(_Identified).decode


def item_id(item: bytes) -> str:
    """The id of an item in JSON."""
    return _read_id(item).id
