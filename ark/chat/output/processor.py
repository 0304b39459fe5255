"""From the tokens of a reply to what a client sees of them: one pipeline for whole replies and for streams.

Tokens become text, of which reasoning is split off; stop strings end the content, and tool calls are taken out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from ark.chat.output.reasoning import ReasoningSplitter
from ark.chat.output.stops import StopMatcher
from ark.chat.tools.parser import CallDelta, ToolCall, ToolParser
from ark.chat.tools.toolbox import call_for_template, function_call_id
from ark.engines.chat import TokenBatch, TokenLogprob, TokenStream

FinishReason = Literal["stop", "length", "tool_calls"]


class TopLogprob(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    """U+FFFD stands for bytes that are no whole character."""
    logprob: float
    bytes: Sequence[int]


class TokenLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    logprob: float
    bytes: Sequence[int]
    top_logprobs: Sequence[TopLogprob] = ()


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """What one token adds to a reply."""

    content: str = ""
    reasoning: str = ""
    calls: Sequence[CallDelta] = ()
    logprobs: Sequence[TokenLogprobs] = ()
    index: int = 0
    """Which of the replies to the request it is of."""
    last: bool = False
    """The reply ends with it, while others go on. What ends with the whole job has no such delta."""


class OutputProcessor:
    """One reply while its tokens come in."""

    def __init__(
        self,
        stream: TokenStream,
        *,
        index: int = 0,
        splitter: ReasoningSplitter | None = None,
        stops: Sequence[str] = (),
        min_tokens: int = 0,
        calls: ToolParser | None = None,
        token_bytes: Callable[[int], bytes] | None = None,
    ) -> None:
        """`token_bytes` is given where log-probabilities are asked for."""
        self._stream = stream
        self._splitter = splitter
        self._stops = StopMatcher(stops) if stops else None
        self._min_tokens = min_tokens
        self._parser = calls
        self._token_bytes = token_bytes
        self._length = 0
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[tuple[str, str, list[str]]] = []
        self._logprobs: list[TokenLogprobs] = []
        self._undecided: list[TokenLogprobs] = []
        """Of tokens whose text has not been passed on yet."""
        self.index = index
        self.reasoning_tokens = 0
        self.reasoning_end = 0
        """Index in `token_ids` behind the reasoning and its tags."""
        self.token_ids: list[int] = []
        """Every id generated, a stop id included."""
        self.finish_reason: FinishReason | None = None

    @property
    def content(self) -> str:
        return "".join(self._content)

    @property
    def reasoning(self) -> str:
        return "".join(self._reasoning)

    @property
    def calls(self) -> list[ToolCall]:
        """The tool calls so far, the last one perhaps half."""
        return [ToolCall(number, name, "".join(arguments)) for number, name, arguments in self._calls]

    @property
    def stop(self) -> str | None:
        """The stop string that ended the reply."""
        return None if self._stops is None else self._stops.matched

    @property
    def logprobs(self) -> list[TokenLogprobs] | None:
        """Of the tokens behind the reasoning; None where they were not asked for."""
        return None if self._token_bytes is None else self._logprobs

    @property
    def kept(self) -> int | None:
        """When a stop string or a repeated call ended the reply: characters of the whole text, reasoning and tags
        included, before it."""
        stops, parser = self._stops, self._parser
        dropped = 0 if stops is None else stops.dropped
        if parser is not None and parser.repeated:
            return self._length - dropped - parser.behind
        return self._length - dropped if stops is not None and stops.matched else None

    def message(self, *, legacy: bool = False) -> dict[str, Any]:
        """The reply as a message of the conversation, as it comes back when the client sends it; `legacy` is that of
        the request's tools."""
        message: dict[str, Any] = {"role": "assistant", "content": self.content}
        if self._reasoning:
            message["reasoning_content"] = self.reasoning
        if self._calls:
            message["tool_calls"] = [
                call_for_template(function_call_id(call.name) if legacy else call.id, call.name, call.arguments)
                for call in (self.calls[:1] if legacy else self.calls)
            ]
        return message

    def push(self, batch: TokenBatch) -> list[Delta]:
        """What a batch adds. When the batch or a stop string ends the reply, `finish_reason` is set and what was held
        back is there too."""
        deltas: list[Delta] = []
        stop_id = len(batch.token_ids) - 1 if batch.finish_reason == "stop" else -1
        for number, token in enumerate(batch.token_ids):
            self.token_ids.append(token)
            # The id that stopped the reply may be an ordinary one, of the request's `stop_token_ids`.
            text = "" if number == stop_id else self._stream.push((token,))
            self._length += len(text)
            reasoning, content = ("", text) if self._splitter is None else self._split(text, self._splitter)
            if self._token_bytes is not None and number != stop_id:
                self._note_logprob(with_text(token, batch.logprobs[number], self._token_bytes), text)
            if reasoning or content:
                self._emit(reasoning, content, deltas)
            if self.finish_reason is not None:
                break
        else:
            if batch.finish_reason is None:
                return deltas
            self.finish_reason = batch.finish_reason
            self._flush(deltas)
        self._finish(deltas)
        return deltas

    def _split(self, text: str, splitter: ReasoningSplitter) -> tuple[str, str]:
        inside = splitter.reasoning
        reasoning, content = splitter.push(text)
        if inside or splitter.reasoning:
            self.reasoning_tokens += 1
            self.reasoning_end = len(self.token_ids)
        return reasoning, content

    def _note_logprob(self, found: TokenLogprobs, text: str) -> None:
        splitter = self._splitter
        if splitter is not None and not splitter.answering and (text or splitter.reasoning):
            # Reasoning, its tags, or the white space behind it; not the beginning of a character.
            self._undecided = []
        else:
            self._undecided.append(found)

    def _emit(self, reasoning: str, content: str, deltas: list[Delta], *, last: bool = False) -> None:
        if self._stops is not None:
            # As in vLLM, stop strings are not looked for in the text of the first `min_tokens`.
            if len(self.token_ids) > self._min_tokens:
                content = self._stops.push(content)
            if self._stops.matched is not None:
                self.finish_reason = "stop"
            elif last:
                content += self._stops.flush()
        calls: Sequence[CallDelta] = ()
        if self._parser is not None and content:
            content, calls = self._parser.push(content)
            if self._parser.repeated:
                self.finish_reason = "stop"
        self._add(reasoning, content, calls, deltas)

    def _add(self, reasoning: str, content: str, calls: Sequence[CallDelta], deltas: list[Delta]) -> None:
        logprobs: Sequence[TokenLogprobs] = ()
        if reasoning:
            self._reasoning.append(reasoning)
        elif not content and not calls:
            return
        if content:
            self._content.append(content)
        for call in calls:
            if call.id is not None:
                self._calls.append((call.id, call.name or "", []))
            self._calls[call.index][2].append(call.arguments)
        if self._undecided and (content or calls):
            logprobs, self._undecided = self._undecided, []
            self._logprobs += logprobs
        deltas.append(Delta(content=content, reasoning=reasoning, calls=calls, logprobs=logprobs, index=self.index))

    def _flush(self, deltas: list[Delta]) -> None:
        """What the decoder, the splitter and the stop matcher hold back, now that nothing more comes."""
        reasoning, content = "", self._stream.flush()
        self._length += len(content)
        if self._splitter is not None:
            reasoning, content = self._splitter.push(content) if content else ("", "")
            held_reasoning, held_content = self._splitter.flush()
            reasoning, content = reasoning + held_reasoning, content + held_content
        self._emit(reasoning, content, deltas, last=True)

    def _finish(self, deltas: list[Delta]) -> None:
        if self._parser is None:
            return
        cut = self._parser.inside_arguments
        # What looks like a call to its end is none.
        self._add("", *self._parser.flush(cut=self.finish_reason == "length"), deltas)
        if self._calls and not cut and self.finish_reason == "stop":
            self.finish_reason = "tool_calls"


def with_text(token_id: int, found: TokenLogprob, token_bytes: Callable[[int], bytes]) -> TokenLogprobs:
    """What an engine tells of a token, with its text. `token_bytes` gives what an id adds to it."""
    data = token_bytes(token_id)
    top: list[TopLogprob] = []
    for other, logprob in found.top:
        others = token_bytes(other)
        top.append(TopLogprob(token=others.decode("utf-8", "replace"), logprob=logprob, bytes=list(others)))
    text = data.decode("utf-8", "replace")
    return TokenLogprobs(token=text, logprob=found.logprob, bytes=list(data), top_logprobs=top)
