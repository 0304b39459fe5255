"""Tokens to text: one path for whole replies and streams.

A fold takes the token batches of one reply and gives pieces of text, one per token where there is text: characters
are completed, reasoning and answer split, stop strings found, tool calls read. It counts what usage reports.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing

import msgspec

from ark.api.chat.logprob_schema import TokenLogprobs
from ark.api.chat.schema import (
    CompletionTokensDetails,
    FinishReason,
    FunctionCall,
    PromptTokensDetails,
    ToolCall,
    Usage,
)
from ark.chat.output.logprobs import Likelihoods
from ark.chat.output.reasoning import ReasoningSplitter
from ark.chat.output.stops import StopMatcher
from ark.chat.tools.parser import CallDelta, ToolParser
from ark.engines.chat import TokenBatch, TokenStream


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Text that one token completed."""

    content: str = ""
    reasoning: str = ""
    calls: Sequence[CallDelta] = ()
    logprobs: Sequence[TokenLogprobs] = ()
    index: int = 0
    """Which of the replies to the request it is of."""
    last: bool = False
    """The reply is over with it, while others go on. What ends with the whole job has no such piece."""


class Fold:
    """The state of one reply while its tokens come in."""

    def __init__(
        self,
        *,
        prompt_tokens: int,
        stream: TokenStream,
        splitter: ReasoningSplitter | None,
        stops: Sequence[str],
        min_tokens: int = 0,
        calls: ToolParser | None = None,
        likelihoods: Likelihoods | None = None,
        index: int = 0,
    ) -> None:
        self._stream = stream
        self._splitter = splitter
        self._stops = StopMatcher(stops)
        self._min_tokens = min_tokens
        self._parser = calls
        self._likelihoods = likelihoods
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[list[str]] = []
        self._logprobs: list[TokenLogprobs] = []
        self._length = 0
        self.index = index
        self.prompt_tokens = prompt_tokens
        self.cached_tokens = 0
        self.reasoning_tokens = 0
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
        return [ToolCall(id=i, function=FunctionCall(name=name, arguments=text)) for i, name, text in self._calls]

    @property
    def logprobs(self) -> list[TokenLogprobs] | None:
        """Of the tokens behind the reasoning; None where they were not asked for."""
        return None if self._likelihoods is None else self._logprobs

    @property
    def kept(self) -> int | None:
        """When a stop string ended the reply: characters of the whole text, reasoning and tags included, before it."""
        return None if self._stops.matched is None else self._length - self._stops.dropped

    @property
    def usage(self) -> Usage:
        return usage([self])

    async def pieces(self, batches: AsyncGenerator[TokenBatch, None]) -> AsyncGenerator[Piece, None]:
        """The pieces of a job of one reply, as `fold_all` gives them."""
        async with aclosing(fold_all([self], batches)) as pieces:
            async for piece in pieces:
                yield piece

    def push(self, batch: TokenBatch) -> Iterator[Piece]:
        """The pieces of one batch. When the reply is over, by the batch or by a stop string, `finish_reason` is set,
        and what was held back comes with the last piece."""
        yield from self._push(batch)
        if self._stops.matched is not None:
            self.finish_reason = "stop"
        elif batch.finish_reason is not None:
            self.finish_reason = batch.finish_reason
            yield from self._flush()
        else:
            return
        whole = True
        if self._parser is not None:
            whole = not self._parser.inside
            # What looked like a call to its end is none.
            content, deltas = self._parser.flush()
            yield from self._piece("", content, deltas)
        if self._calls and whole and self.finish_reason == "stop":
            self.finish_reason = "tool_calls"

    def _push(self, batch: TokenBatch) -> Iterator[Piece]:
        last = len(batch.token_ids) - 1
        for number, token in enumerate(batch.token_ids):
            self.token_ids.append(token)
            # The id that stopped the reply may be an ordinary one, of the request's `stop_token_ids`.
            stopping = number == last and batch.finish_reason == "stop"
            text = "" if stopping else self._stream.push((token,))
            self._length += len(text)
            inside = self._splitter is not None and self._splitter.reasoning
            reasoning, content = ("", text) if self._splitter is None else self._splitter.push(text)
            if inside or (self._splitter is not None and self._splitter.reasoning):
                self.reasoning_tokens += 1
            if self._likelihoods is not None and not stopping:
                self._likelihoods.add(token, batch.logprobs[number])
                splitter = self._splitter
                if splitter is not None and not splitter.answering and (text or splitter.reasoning):
                    # Reasoning, its tags, or the white space behind it; not the beginning of a character.
                    self._likelihoods.take()
            yield from self._text(reasoning, content)
            if self._stops.matched is not None:
                return

    def _flush(self) -> Iterator[Piece]:
        """What was held back, now that nothing more comes."""
        text = self._stream.flush()
        self._length += len(text)
        if self._splitter is None:
            reasoning, content = "", text
        else:
            reasoning, content = self._splitter.push(text) if text else ("", "")
            held_reasoning, held_content = self._splitter.flush()
            reasoning, content = reasoning + held_reasoning, content + held_content
        content = self._before_stop(content)
        if self._stops.matched is None:
            content += self._stops.flush()
        else:
            self.finish_reason = "stop"
        yield from self._parsed(reasoning, content)

    def _text(self, reasoning: str, content: str) -> Iterator[Piece]:
        yield from self._parsed(reasoning, self._before_stop(content) if content else "")

    def _before_stop(self, content: str) -> str:
        """What may be passed on. As in vLLM, stop strings are not looked for in the text of the first `min_tokens`."""
        return content if len(self.token_ids) <= self._min_tokens else self._stops.push(content)

    def _parsed(self, reasoning: str, content: str) -> Iterator[Piece]:
        deltas: Sequence[CallDelta] = ()
        if self._parser is not None and content:
            content, deltas = self._parser.push(content)
        yield from self._piece(reasoning, content, deltas)

    def _piece(self, reasoning: str, content: str, deltas: Sequence[CallDelta]) -> Iterator[Piece]:
        if not reasoning and not content and not deltas:
            return
        if reasoning:
            self._reasoning.append(reasoning)
        if content:
            self._content.append(content)
        for delta in deltas:
            if delta.id is not None:
                self._calls.append([delta.id, delta.name or "", ""])
            self._calls[delta.index][2] += delta.arguments
        logprobs: Sequence[TokenLogprobs] = ()
        if self._likelihoods is not None and (content or deltas):
            logprobs = self._likelihoods.take()
            self._logprobs.extend(logprobs)
        yield Piece(content=content, reasoning=reasoning, calls=deltas, logprobs=logprobs, index=self.index)


async def fold_all(
    folds: Sequence[Fold],
    batches: AsyncGenerator[TokenBatch, None],
    dropped: set[int] | None = None,
    seen: Callable[[TokenBatch], None] | None = None,
) -> AsyncGenerator[Piece, None]:
    """The pieces of all replies of a job, each with its own fold. The first one comes when the engine takes the job,
    and is empty.

    Ends when every reply has its finish reason. If that is by a stop string, the engine's generator is closed, which
    cancels the job. While others go on, the reply's index is added to `dropped`, the job's. `seen` is told of each
    batch before its pieces are given.
    """
    async with aclosing(batches):
        async for batch in batches:
            if seen is not None:
                seen(batch)
            fold = folds[batch.index]
            if batch.cached_tokens is not None:
                fold.cached_tokens = batch.cached_tokens
                yield Piece()
            if fold.finish_reason is not None:
                # A stop string has ended this reply, and the engine goes on for the others.
                continue
            for piece in fold.push(batch):
                yield piece
            going = [one for one in folds if one.finish_reason is None]
            if not going:
                return
            if fold not in going:
                if batch.finish_reason is None and dropped is not None:
                    dropped.add(fold.index)
                yield Piece(index=fold.index, last=True)
    raise RuntimeError("the backend ended a job without a finish reason")


def usage(folds: Sequence[Fold]) -> Usage:
    """What the replies to one prompt cost together."""
    prompt = folds[0].prompt_tokens
    completion = sum(len(fold.token_ids) for fold in folds)
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=folds[0].cached_tokens),
        completion_tokens_details=CompletionTokensDetails(
            reasoning_tokens=sum(fold.reasoning_tokens for fold in folds)
        ),
    )
