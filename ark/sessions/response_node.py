"""A stored response, and its form on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from ark.sessions.transcript import TOKEN_BYTES, Message, Seam, Transcript, common_tokens, read_message

_NODE_BYTES = 1024
"""What a response takes in memory beside what it holds."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A node as it is written to disk."""

    owner: str
    model: str
    fingerprint: str
    parent: str
    kept: tuple[int, int, int]
    messages: list[dict[str, Any]]
    tokens: bytes
    seams: list[Seam]
    instructed: bool
    body: bytes
    items: list[bytes]
    inputs: int
    created: float
    readable: bool


_encode = msgspec.msgpack.Encoder().encode
decode_record = msgspec.msgpack.Decoder(Record).decode


@dataclass(eq=False)
class Node:
    """A response, and what it adds to its parent's conversation."""

    id: str
    owner: str
    model: str
    fingerprint: str
    parent: Node | None
    kept: tuple[int, int, int]
    """How many of the parent's messages, tokens and seams the conversation begins with."""
    messages: tuple[Message, ...]
    tokens: bytes
    seams: tuple[Seam, ...]
    instructed: bool
    """The conversation's first message is the response's `instructions`."""
    body: bytes
    """The response as it was sent."""
    items: list[bytes]
    """The items of its input, then those of its output, each as JSON."""
    inputs: int
    """How many of them are of its input."""
    created: float
    readable: bool = True
    """It can be asked for and continued. Of others only the tokens are kept, for the responses behind them."""
    key: str = ""
    """Names its state in the backend; empty where another response has taken it over."""
    children: int = 0

    def transcript(self) -> Transcript:
        """The whole conversation."""
        chain: list[Node] = []
        node: Node | None = self
        while node is not None:
            chain.append(node)
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
        return Transcript(self.model, self.fingerprint, tuple(messages), bytes(tokens), tuple(seams))

    @property
    def size(self) -> int:
        """Bytes that count against the limits."""
        return (
            _NODE_BYTES
            + sum(message.size for message in self.messages)
            + len(self.tokens)
            + len(self.body)
            + sum(map(len, self.items))
        )


@dataclass(eq=False)
class Link:
    """A client's connection, on which the latest response can be continued whether it was stored or not."""

    latest: Node | None = None


def encode_node(node: Node) -> bytes:
    """A node's record."""
    record = Record(
        owner=node.owner,
        model=node.model,
        fingerprint=node.fingerprint,
        parent="" if node.parent is None else node.parent.id,
        kept=node.kept,
        messages=[dict(message.data) for message in node.messages],
        tokens=node.tokens,
        seams=list(node.seams),
        instructed=node.instructed,
        body=node.body,
        items=node.items,
        inputs=node.inputs,
        created=node.created,
        readable=node.readable,
    )
    return _encode(record)


def read_record(number: str, record: Record, parent: Node | None) -> Node:
    """The node of a record."""
    return Node(
        id=number,
        owner=record.owner,
        model=record.model,
        fingerprint=record.fingerprint,
        parent=parent,
        kept=record.kept,
        messages=tuple(read_message(data) for data in record.messages),
        tokens=record.tokens,
        seams=tuple(record.seams),
        instructed=record.instructed,
        body=record.body if record.fingerprint else _broken_off(record.body),
        items=record.items,
        inputs=record.inputs,
        created=record.created,
        readable=record.readable,
    )


def new_node(
    transcript: Transcript | None,
    parent: Node | None,
    *,
    id: str,
    owner: str,
    key: str,
    instructed: bool,
    body: bytes,
    items: list[bytes],
    inputs: int,
    created: float,
    readable: bool = True,
) -> Node:
    """The node of a response whose conversation is `transcript`, which has most of its parent's; without one, a
    response that cannot be continued."""
    whole = transcript or Transcript("", "", (), b"", ())
    kept = (0, 0, 0)
    if parent is not None:
        before = parent.transcript()
        seams = _common(before.seams, whole.seams)
        kept = _common(before.messages, whole.messages), common_tokens(before.tokens, whole.tokens), seams
    return Node(
        id=id,
        owner=owner,
        model=whole.model,
        fingerprint=whole.fingerprint,
        parent=parent,
        kept=kept,
        messages=whole.messages[kept[0] :],
        tokens=whole.tokens[kept[1] * TOKEN_BYTES :],
        seams=whole.seams[kept[2] :],
        instructed=instructed,
        body=body,
        items=items,
        inputs=inputs,
        created=created,
        readable=readable,
        key=key,
    )


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
