"""One reply in the API's shapes: a completion, chunks, or simplified events."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

import msgspec
from msgspec import UNSET

from ark.api.chat.logprob_schema import ChoiceLogprobs
from ark.api.chat.schema import (
    Choice,
    Chunk,
    ChunkChoice,
    Completion,
    Delta,
    FinishReason,
    FunctionCallDelta,
    ReplyMessage,
    ToolCallDelta,
    Usage,
)
from ark.chat.output.processor import Fold, Piece, usage
from ark.chat.tools.parser import CallDelta
from ark.chat.turn import ChatTurn
from ark.http.sse import DONE, json_event, text_event

_encoder = msgspec.json.Encoder()


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What every object of one reply says."""

    id: str
    created: int
    model: str
    fingerprint: str

    @classmethod
    def new(cls, model: str, fingerprint: str) -> Head:
        name = f"chatcmpl-{secrets.token_hex(16)}"
        return cls(id=name, created=int(time.time()), model=model, fingerprint=fingerprint)


def completion(head: Head, turn: ChatTurn) -> bytes:
    """The whole reply as a chat.completion."""
    reply = Completion(
        id=head.id,
        created=head.created,
        model=head.model,
        choices=[_choice(fold, legacy=turn.legacy) for fold in turn.folds],
        usage=usage(turn.folds),
        system_fingerprint=head.fingerprint,
    )
    return _encoder.encode(reply)


def _choice(fold: Fold, *, legacy: bool) -> Choice:
    calls = fold.calls
    message = ReplyMessage(
        content=fold.content or (None if calls else ""),
        reasoning_content=fold.reasoning or UNSET,
        tool_calls=calls if calls and not legacy else UNSET,
        function_call=calls[0].function if calls and legacy else UNSET,
    )
    logprobs = None if fold.logprobs is None else ChoiceLogprobs(content=fold.logprobs)
    return Choice(index=fold.index, message=message, finish_reason=_reason(fold, legacy), logprobs=logprobs)


def _reason(fold: Fold, legacy: bool) -> FinishReason:
    if legacy and fold.finish_reason == "tool_calls":
        return "function_call"
    return fold.finish_reason or "stop"


async def chunks(head: Head, turn: ChatTurn, *, include_usage: bool) -> AsyncGenerator[bytes, None]:
    """The reply as chat.completion.chunk events: the role, the text, the finish reason, the usage, [DONE].

    Of several replies each has its finish reason as soon as it ends; that of the last comes when the turn is kept.
    """
    asked: msgspec.UnsetType | None = None if include_usage else UNSET

    def event(index: int, delta: Delta, **more: Any) -> bytes:
        return _event(head, [ChunkChoice(index=index, delta=delta, **more)], asked)

    begun, ended = False, set[int]()
    async with aclosing(turn.pieces()) as pieces:
        async for piece in pieces:
            if not begun:
                begun = True
                for fold in turn.folds:
                    yield event(fold.index, Delta(role="assistant", content="", refusal=None))
            logprobs = ChoiceLogprobs(content=piece.logprobs) if piece.logprobs else None
            for delta in _deltas(piece, legacy=turn.legacy):
                yield event(piece.index, delta, logprobs=logprobs)
                logprobs = None
            if piece.last:
                ended.add(piece.index)
                yield event(piece.index, Delta(), finish_reason=_reason(turn.folds[piece.index], turn.legacy))
    for fold in turn.folds:
        if fold.index not in ended:
            yield event(fold.index, Delta(), finish_reason=_reason(fold, turn.legacy))
    if include_usage:
        yield _event(head, [], usage(turn.folds))
    yield DONE


def _deltas(piece: Piece, *, legacy: bool) -> Iterator[Delta]:
    if piece.content or piece.reasoning:
        yield Delta(content=piece.content or UNSET, reasoning_content=piece.reasoning or UNSET)
    for call in piece.calls:
        function = FunctionCallDelta(name=call.name or UNSET, arguments=call.arguments)
        if not legacy:
            yield Delta(tool_calls=[_call_delta(call, function)])
        elif call.index == 0:
            yield Delta(function_call=function)


def _call_delta(call: CallDelta, function: FunctionCallDelta) -> ToolCallDelta:
    if call.id is None:
        return ToolCallDelta(index=call.index, function=function)
    return ToolCallDelta(index=call.index, id=call.id, type="function", function=function)


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
    yield json_event(_encoder.encode(usage(turn.folds)))
    yield DONE


def _event(head: Head, choices: list[ChunkChoice], used: Usage | msgspec.UnsetType | None) -> bytes:
    chunk = Chunk(
        id=head.id,
        created=head.created,
        model=head.model,
        choices=choices,
        usage=used,
        system_fingerprint=head.fingerprint,
    )
    return json_event(_encoder.encode(chunk))
