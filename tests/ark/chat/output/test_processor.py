"""Tokens to text."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from echo_backend import END, ByteStream

from ark.chat.output.processor import Fold, Piece
from ark.chat.output.reasoning import ReasoningSplitter
from ark.engines.chat import TokenBatch

pytestmark = pytest.mark.anyio


class Engine:
    """Gives batches, and knows whether it was closed before their end."""

    def __init__(self, *batches: TokenBatch) -> None:
        self._batches = batches
        self.finished = False
        self.closed = False

    async def generate(self) -> AsyncGenerator[TokenBatch, None]:
        try:
            for batch in self._batches:
                yield batch
            self.finished = True
        finally:
            self.closed = True


ADMITTED = TokenBatch(cached_tokens=3)


def batch(text: str, finish_reason: str | None = None) -> TokenBatch:
    ids = [*text.encode(), *([END] if finish_reason == "stop" else [])]
    return TokenBatch(token_ids=ids, finish_reason=finish_reason)


def make_fold(*stops: str, reasoning: bool = False) -> Fold:
    splitter = ReasoningSplitter() if reasoning else None
    return Fold(prompt_tokens=5, stream=ByteStream(), splitter=splitter, stops=stops)


async def run(fold: Fold, *batches: TokenBatch) -> tuple[list[Piece], Engine]:
    engine = Engine(*batches)
    pieces = [piece async for piece in fold.pieces(engine.generate())]
    assert engine.closed
    return pieces, engine


async def test_the_first_piece_is_empty_and_comes_with_the_admission() -> None:
    fold = make_fold()
    pieces, _ = await run(fold, ADMITTED, batch("hi", "stop"))
    assert pieces == [Piece(), Piece(content="h"), Piece(content="i")]
    assert fold.finish_reason == "stop"
    assert fold.content == "hi"


async def test_a_batch_of_several_tokens_gives_a_piece_for_each() -> None:
    pieces, _ = await run(make_fold(), ADMITTED, batch("aé☃"), batch("", "stop"))
    assert [piece.content for piece in pieces] == ["", "a", "é", "☃"]


async def test_usage_counts_every_token() -> None:
    fold = make_fold()
    await run(fold, ADMITTED, batch("hé"), batch("", "stop"))
    usage = fold.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (5, 4, 9)
    assert usage.prompt_tokens_details.cached_tokens == 3
    assert usage.completion_tokens_details.reasoning_tokens == 0
    assert fold.token_ids == [*"hé".encode(), END]


async def test_half_a_character_at_the_end_becomes_a_replacement() -> None:
    fold = make_fold()
    await run(fold, ADMITTED, TokenBatch(token_ids="é".encode()[:1], finish_reason="length"))
    assert fold.content == "\N{REPLACEMENT CHARACTER}"
    assert fold.finish_reason == "length"


async def test_a_stop_string_over_several_batches_closes_the_engine() -> None:
    fold = make_fold("END")
    _, engine = await run(fold, ADMITTED, batch("one E"), batch("ND two"), batch("three", "stop"))
    assert fold.content == "one "
    assert fold.finish_reason == "stop"
    assert not engine.finished
    assert fold.token_ids == list(b"one END")


async def test_what_a_stop_string_held_back_comes_at_the_end() -> None:
    fold = make_fold("END")
    await run(fold, ADMITTED, batch("one EN", "length"))
    assert fold.content == "one EN"
    assert fold.finish_reason == "length"


async def test_a_stop_string_that_is_complete_only_with_the_last_character() -> None:
    fold = make_fold("\N{REPLACEMENT CHARACTER}")
    await run(fold, ADMITTED, TokenBatch(token_ids=b"a\xc3", finish_reason="length"))
    assert fold.content == "a"
    assert fold.finish_reason == "stop"


async def test_the_id_that_stopped_the_reply_gives_no_text() -> None:
    """It may be an ordinary one, of the request's `stop_token_ids`."""
    fold = make_fold()
    await run(fold, ADMITTED, TokenBatch(token_ids=b"ab."), TokenBatch(token_ids=b"c.", finish_reason="stop"))
    assert fold.content == "ab.c"
    assert fold.token_ids == list(b"ab.c.")
    last = make_fold()
    await run(last, ADMITTED, TokenBatch(token_ids=b"c.", finish_reason="length"))
    assert last.content == "c."


async def test_reasoning_is_split_off_and_counted() -> None:
    fold = make_fold(reasoning=True)
    pieces, _ = await run(fold, ADMITTED, batch("<think>why</think>so", "stop"))
    assert (fold.reasoning, fold.content) == ("why", "so")
    assert all(not (piece.reasoning and piece.content) for piece in pieces)
    assert fold.usage.completion_tokens_details.reasoning_tokens == len("<think>why</think>") - len("<think")


async def test_stop_strings_are_not_looked_for_in_reasoning() -> None:
    fold = make_fold(".", reasoning=True)
    await run(fold, ADMITTED, batch("<think>a.b</think>c.d", "stop"))
    assert (fold.reasoning, fold.content) == ("a.b", "c")


async def test_stop_strings_are_looked_for_behind_min_tokens() -> None:
    fold = Fold(prompt_tokens=5, stream=ByteStream(), splitter=None, stops=["b"], min_tokens=3)
    await run(fold, ADMITTED, batch("abcabc", "stop"))
    assert (fold.content, fold.finish_reason, fold.kept) == ("abca", "stop", 4)


async def test_an_engine_that_ends_without_a_reason_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="finish reason"):
        await run(make_fold(), ADMITTED, batch("half"))
