"""Tokens to text: one path for whole replies and streams.

A fold takes the token batches of one reply and gives pieces of text, one per token where there is text: characters
are completed, reasoning and answer split, stop strings found. It counts what usage reports.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing

import msgspec

from ark.backends import TokenBatch, TokenStream
from ark.chat.reasoning import ReasoningSplitter
from ark.chat.stops import StopMatcher
from ark.schemas.chat import CompletionTokensDetails, FinishReason, PromptTokensDetails, Usage


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Text that one token completed."""

    content: str = ""
    reasoning: str = ""


class Fold:
    """The state of one reply while its tokens come in."""

    def __init__(
        self,
        *,
        prompt_tokens: int,
        stream: TokenStream,
        splitter: ReasoningSplitter | None,
        stops: Sequence[str],
    ) -> None:
        self._stream = stream
        self._splitter = splitter
        self._stops = StopMatcher(stops)
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._length = 0
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
    def kept(self) -> int | None:
        """When a stop string ended the reply: characters of the whole text, reasoning and tags included, before it."""
        return None if self._stops.matched is None else self._length - self._stops.dropped

    @property
    def usage(self) -> Usage:
        completion = len(self.token_ids)
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=completion,
            total_tokens=self.prompt_tokens + completion,
            prompt_tokens_details=PromptTokensDetails(cached_tokens=self.cached_tokens),
            completion_tokens_details=CompletionTokensDetails(reasoning_tokens=self.reasoning_tokens),
        )

    async def pieces(self, batches: AsyncGenerator[TokenBatch, None]) -> AsyncGenerator[Piece, None]:
        """The reply's pieces. The first one comes when the engine takes the job, and is empty.

        Ends when the engine does, or when a stop string is found: then the engine's generator is closed, which
        cancels the job.
        """
        async with aclosing(batches):
            async for batch in batches:
                if batch.cached_tokens is not None:
                    self.cached_tokens = batch.cached_tokens
                    yield Piece()
                for piece in self._push(batch):
                    yield piece
                if self._stops.matched is not None:
                    self.finish_reason = "stop"
                    return
                if batch.finish_reason is not None:
                    self.finish_reason = batch.finish_reason
                    if (last := self._flush()) is not None:
                        yield last
                    return
        raise RuntimeError("the backend ended a job without a finish reason")

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
            content = self._stops.push(content) if content else ""
            if (piece := self._piece(reasoning, content)) is not None:
                yield piece
            if self._stops.matched is not None:
                return

    def _flush(self) -> Piece | None:
        """What was held back, now that nothing more comes."""
        text = self._stream.flush()
        self._length += len(text)
        if self._splitter is None:
            reasoning, content = "", text
        else:
            reasoning, content = self._splitter.push(text) if text else ("", "")
            held_reasoning, held_content = self._splitter.flush()
            reasoning, content = reasoning + held_reasoning, content + held_content
        content = self._stops.push(content)
        if self._stops.matched is None:
            content += self._stops.flush()
        else:
            self.finish_reason = "stop"
        return self._piece(reasoning, content)

    def _piece(self, reasoning: str, content: str) -> Piece | None:
        if not reasoning and not content:
            return None
        if reasoning:
            self._reasoning.append(reasoning)
        if content:
            self._content.append(content)
        return Piece(content=content, reasoning=reasoning)
