"""A turn in the API's shapes: a completion, chunks, or bare text."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterator
from typing import Any, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from ark import __version__
from ark.api.chat import schema
from ark.api.error_body import encode_error
from ark.chat.output.processor import Delta, OutputProcessor
from ark.chat.tools.custom import InputReader
from ark.chat.tools.parser import ToolCall
from ark.chat.turn import Turn
from ark.errors import APIError
from ark.http.sse import DONE, json_event, text_event

FINGERPRINT = f"ark-{__version__}"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What every object of one reply says."""

    model: str
    id: str = msgspec.field(default_factory=lambda: f"chatcmpl-{random.getrandbits(128):032x}")
    """A name and no secret: what it opens is the key's."""
    created: int = msgspec.field(default_factory=lambda: int(time.time()))


def completion(head: Head, turn: Turn) -> schema.Completion:
    """The whole reply as a chat.completion."""
    return schema.Completion(
        id=head.id,
        created=head.created,
        model=head.model,
        choices=[_choice(output, turn.legacy, turn.custom_tools) for output in turn.outputs],
        usage=usage(turn),
        system_fingerprint=FINGERPRINT,
    )


def usage(turn: Turn) -> schema.Usage:
    return schema.Usage(
        prompt_tokens=turn.prompt_tokens,
        completion_tokens=turn.completion_tokens,
        total_tokens=turn.prompt_tokens + turn.completion_tokens,
        prompt_tokens_details=schema.PromptTokensDetails(cached_tokens=turn.cached_tokens),
        completion_tokens_details=schema.CompletionTokensDetails(reasoning_tokens=turn.reasoning_tokens),
    )


def _call(call: ToolCall, custom: Collection[str]) -> schema.ToolCall:
    if call.name in custom:
        text = InputReader().push(call.arguments)
        return schema.ToolCall(id=call.id, type="custom", custom=schema.CustomCall(name=call.name, input=text))
    return schema.ToolCall(id=call.id, function=schema.FunctionCall(name=call.name, arguments=call.arguments))


def _choice(output: OutputProcessor, legacy: bool, custom: Collection[str]) -> schema.Choice:
    calls = [_call(call, custom) for call in output.calls]
    message = schema.ReplyMessage(
        content=output.content or (None if calls else ""),
        reasoning_content=output.reasoning or UNSET,
        tool_calls=calls if calls and not legacy else UNSET,
        function_call=calls[0].function if calls and legacy else UNSET,
    )
    logprobs = None if output.logprobs is None else schema.ChoiceLogprobs(content=output.logprobs)
    return schema.Choice(index=output.index, message=message, finish_reason=_reason(output, legacy), logprobs=logprobs)


def _reason(output: OutputProcessor, legacy: bool) -> schema.FinishReason:
    if legacy and output.finish_reason == "tool_calls":
        return "function_call"
    return output.finish_reason or "stop"


class StreamRenderer(Protocol):
    """Writes a turn as server-sent events. A method returns any number of them, joined."""

    def start(self) -> bytes:
        """When the turn has begun."""

    def delta(self, delta: Delta) -> bytes: ...

    def end(self) -> bytes:
        """When the turn is complete and kept."""


class ChunkRenderer:
    """Writes chat.completion.chunk events: the role, the text, the finish reason, the usage, [DONE].

    Of several replies each has its finish reason as soon as it ends; that of the last comes when the turn is kept.
    """

    def __init__(self, turn: Turn, *, head: Head, include_usage: bool) -> None:
        self._turn = turn
        self._head = head
        self._usage: UnsetType | None = None if include_usage else UNSET
        self._ended: set[int] = set()
        self._custom = turn.custom_tools
        self._readers: dict[tuple[int, int], InputReader] = {}
        """Of the calls of custom tools, by reply and call."""
        # The chunks of a reply's text differ in nothing but that text.
        mark = f"<{head.id}>"
        event = self._event(schema.ChunkChoice(index=0, delta=schema.ChoiceDelta(content=mark)))
        self._before, _, self._after = event.partition(msgspec.json.encode(mark))

    def start(self) -> bytes:
        role = schema.ChoiceDelta(role="assistant", content="", refusal=None)
        outputs = self._turn.outputs
        return b"".join(self._event(schema.ChunkChoice(index=output.index, delta=role)) for output in outputs)

    def delta(self, delta: Delta) -> bytes:
        if delta.content and not (delta.reasoning or delta.calls or delta.logprobs or delta.index):
            return self._before + msgspec.json.encode(delta.content) + self._after
        if delta.last:
            self._ended.add(delta.index)
            return self._finish(self._turn.outputs[delta.index])
        logprobs = schema.ChoiceLogprobs(content=delta.logprobs) if delta.logprobs else None
        events: list[bytes] = []
        for choice in self._choices(delta):
            events.append(self._event(schema.ChunkChoice(index=delta.index, delta=choice, logprobs=logprobs)))
            logprobs = None
        return b"".join(events)

    def end(self) -> bytes:
        turn = self._turn
        events = [self._finish(output) for output in turn.outputs if output.index not in self._ended]
        if self._usage is None:
            events.append(self._chunk([], usage(turn)))
        return b"".join([*events, DONE])

    def _choices(self, delta: Delta) -> Iterator[schema.ChoiceDelta]:
        if delta.content or delta.reasoning:
            yield schema.ChoiceDelta(content=delta.content or UNSET, reasoning_content=delta.reasoning or UNSET)
        for call in delta.calls:
            function = schema.FunctionCallDelta(name=call.name or UNSET, arguments=call.arguments)
            if self._turn.legacy:
                if call.index == 0:
                    yield schema.ChoiceDelta(function_call=function)
                continue
            named: Any = {} if call.id is None else {"id": call.id, "type": "function"}
            if call.name in self._custom:
                self._readers[delta.index, call.index] = InputReader()
            if (reader := self._readers.get((delta.index, call.index))) is not None:
                text = schema.CustomCallDelta(name=call.name or UNSET, input=reader.push(call.arguments))
                named = named and named | {"type": "custom"}
                if named or text.input:
                    yield schema.ChoiceDelta(tool_calls=[schema.ToolCallDelta(index=call.index, custom=text, **named)])
                continue
            yield schema.ChoiceDelta(tool_calls=[schema.ToolCallDelta(index=call.index, function=function, **named)])

    def _finish(self, output: OutputProcessor) -> bytes:
        reason = _reason(output, self._turn.legacy)
        return self._event(schema.ChunkChoice(index=output.index, delta=schema.ChoiceDelta(), finish_reason=reason))

    def _event(self, choice: schema.ChunkChoice) -> bytes:
        return self._chunk([choice], self._usage)

    def _chunk(self, choices: list[schema.ChunkChoice], used: schema.Usage | UnsetType | None) -> bytes:
        head = self._head
        chunk = schema.Chunk(
            id=head.id,
            created=head.created,
            model=head.model,
            choices=choices,
            usage=used,
            system_fingerprint=FINGERPRINT,
        )
        return json_event(msgspec.json.encode(chunk))


class TextRenderer:
    """Writes the reply's text and nothing else, an event for each token; then the usage object and [DONE].

    Reasoning is left out: without the wrapping a client could not tell it from the answer.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._returned = False

    def start(self) -> bytes:
        return b""

    def delta(self, delta: Delta) -> bytes:
        text = delta.content
        if self._returned and text.startswith("\n"):
            # The carriage return of the event before is this line break already.
            text, self._returned = text[1:], False
        if not text:
            return b""
        self._returned = text.endswith("\r")
        return text_event(text)

    def end(self) -> bytes:
        return json_event(msgspec.json.encode(usage(self._turn))) + DONE


def error_event(error: APIError, *, named: bool) -> bytes:
    """An error inside a stream. `named`: with an event name of its own, where the data of other events is text."""
    return b"event: error\n" * named + json_event(encode_error(error))
