"""One reply in the API's shapes: a completion, chunks, or simplified events."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from msgspec import UNSET

from ark.asgi import DONE, json_event, text_event
from ark.chat.fold import Fold
from ark.chat.turn import ChatTurn
from ark.schemas.chat import (
    Choice,
    Chunk,
    ChunkChoice,
    Completion,
    Delta,
    FinishReason,
    ReplyMessage,
    Usage,
)

_encoder = msgspec.json.Encoder()


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What every object of one reply says."""

    id: str
    created: int
    model: str
    fingerprint: str

    @classmethod
    def new(cls, model: str, fingerprint: str) -> Head:
        return cls(id=f"chatcmpl-{uuid.uuid4().hex}", created=int(time.time()), model=model, fingerprint=fingerprint)


def completion(head: Head, fold: Fold) -> bytes:
    """The whole reply as a chat.completion."""
    message = ReplyMessage(content=fold.content, reasoning_content=fold.reasoning or UNSET)
    choice = Choice(index=0, message=message, finish_reason=fold.finish_reason or "stop")
    reply = Completion(
        id=head.id,
        created=head.created,
        model=head.model,
        choices=[choice],
        usage=fold.usage,
        system_fingerprint=head.fingerprint,
    )
    return _encoder.encode(reply)


async def chunks(head: Head, turn: ChatTurn, *, include_usage: bool) -> AsyncGenerator[bytes, None]:
    """The reply as chat.completion.chunk events: the role, the text, the finish reason, the usage, [DONE]."""
    usage: msgspec.UnsetType | None = None if include_usage else UNSET

    def event(delta: Delta, finish_reason: FinishReason | None = None) -> bytes:
        return _event(head, [ChunkChoice(index=0, delta=delta, finish_reason=finish_reason)], usage)

    begun = False
    async with aclosing(turn.pieces()) as pieces:
        async for piece in pieces:
            if not begun:
                begun = True
                yield event(Delta(role="assistant", content="", refusal=None))
            if piece.content or piece.reasoning:
                yield event(Delta(content=piece.content or UNSET, reasoning_content=piece.reasoning or UNSET))
    yield event(Delta(), turn.fold.finish_reason or "stop")
    if include_usage:
        yield _event(head, [], turn.fold.usage)
    yield DONE


async def simplified(turn: ChatTurn) -> AsyncGenerator[bytes, None]:
    """The reply's text and nothing else, an event for each token; then the usage object and [DONE].

    Reasoning is left out: without the wrapping a client could not tell it from the answer.
    """
    returned = False
    async with aclosing(turn.pieces()) as pieces:
        async for piece in pieces:
            text = piece.content
            if returned and text.startswith("\n"):
                # The carriage return of the event before is this line break already.
                text, returned = text[1:], False
            if text:
                returned = text.endswith("\r")
                yield text_event(text)
    yield json_event(_encoder.encode(turn.fold.usage))
    yield DONE


def _event(head: Head, choices: list[ChunkChoice], usage: Usage | msgspec.UnsetType | None) -> bytes:
    chunk = Chunk(
        id=head.id,
        created=head.created,
        model=head.model,
        choices=choices,
        usage=usage,
        system_fingerprint=head.fingerprint,
    )
    return json_event(_encoder.encode(chunk))
