"""Calls, several replies and log-probabilities in the fold."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import pytest
from echo_backend import END, ByteStream, ByteTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from ark.chat.output.logprobs import Likelihoods
from ark.chat.output.processor import Fold, Piece, fold_all, usage
from ark.chat.output.reasoning import ReasoningSplitter
from ark.chat.prompt.messages import reply_message
from ark.chat.tools.formats import HERMES
from ark.chat.tools.parser import ToolParser
from ark.engines.chat import TokenBatch, TokenLogprob

pytestmark = pytest.mark.anyio

CALL = '<tool_call>\n{"name": "look", "arguments": {"a": 1}}\n</tool_call>'


def make_fold(*stops: str, index: int = 0, likely: bool = False, reasoning: bool = False) -> Fold:
    return Fold(
        prompt_tokens=5,
        stream=ByteStream(),
        splitter=ReasoningSplitter() if reasoning else None,
        stops=stops,
        calls=ToolParser(HERMES, {"look"}),
        likelihoods=Likelihoods(ByteTokenizer().token_bytes) if likely else None,
        index=index,
    )


def batch(text: str, finish_reason: str | None = None, index: int = 0) -> TokenBatch:
    ids = [*text.encode(), *([END] if finish_reason == "stop" else [])]
    logprobs = [TokenLogprob(logprob=-float(i), top=[(i, -0.5)]) for i in ids]
    return TokenBatch(token_ids=ids, finish_reason=finish_reason, index=index, logprobs=logprobs)


async def run(folds: Sequence[Fold], *batches: TokenBatch) -> list[Piece]:
    async def generate() -> AsyncGenerator[TokenBatch, None]:
        yield TokenBatch(cached_tokens=3)
        for one in batches:
            yield one

    return [piece async for piece in fold_all(folds, generate())]


async def test_a_call_is_taken_out_of_the_content() -> None:
    fold = make_fold(reasoning=True)
    pieces = await run([fold], batch(f"<think>hm</think>\n\nI look.\n{CALL}", "stop"))
    (call,) = fold.calls
    assert (fold.reasoning, fold.content, call.function.name, call.function.arguments) == (
        "hm",
        "I look.",
        "look",
        '{"a": 1}',
    )
    assert fold.finish_reason == "tool_calls"
    deltas = [delta for piece in pieces for delta in piece.calls]
    assert deltas[0].id == call.id
    assert "".join(delta.arguments for delta in deltas) == call.function.arguments
    message = reply_message(fold.content, fold.reasoning, fold.calls)
    assert message["tool_calls"][0]["function"]["arguments"] == {"a": 1}


async def test_a_call_that_is_cut_says_so() -> None:
    fold = make_fold()
    await run([fold], batch(CALL.removesuffix("}}\n</tool_call>"), "length"))
    assert fold.finish_reason == "length"
    assert fold.calls[0].function.arguments == '{"a": 1'
    message = reply_message(fold.content, "", fold.calls)
    assert message["tool_calls"][0]["function"]["arguments"] == '{"a": 1'


async def test_a_call_that_a_stop_string_cuts_is_not_said_to_be_whole() -> None:
    """Clients parse the arguments of what ends with "tool_calls"."""
    fold = make_fold('"a"')
    await run([fold], batch(CALL, "stop"))
    assert (fold.calls[0].function.arguments, fold.finish_reason) == ("{", "stop")
    behind = make_fold("</tool_call>")
    await run([behind], batch(CALL, "stop"))
    assert (behind.calls[0].function.arguments, behind.finish_reason) == ('{"a": 1}', "tool_calls")


async def test_what_looks_like_a_call_is_content() -> None:
    fold = make_fold()
    await run([fold], batch("a <tool_call> b", "stop"))
    assert (fold.content, fold.calls, fold.finish_reason) == ("a <tool_call> b", [], "stop")


async def test_replies_are_told_apart() -> None:
    folds = [make_fold(index=0), make_fold("X", index=1)]
    pieces = await run(
        folds,
        batch("a"),
        batch("bX", index=1),
        batch("more that nobody sees", index=1),
        batch("c", "stop"),
    )
    assert [fold.content for fold in folds] == ["ac", "b"]
    assert [(piece.index, piece.content, piece.last) for piece in pieces[1:]] == [
        (0, "a", False),
        (1, "b", False),
        (1, "", True),
        (0, "c", False),
    ]
    both = usage(folds)
    assert (both.prompt_tokens, both.completion_tokens) == (5, len("ac") + 1 + len("bX"))
    assert both.prompt_tokens_details.cached_tokens == 3


async def test_only_what_a_stop_string_ended_is_dropped_from_the_job() -> None:
    folds = [make_fold("X", index=index) for index in range(4)]

    async def generate() -> AsyncGenerator[TokenBatch, None]:
        yield TokenBatch(cached_tokens=0)
        yield batch("a", "stop", index=0)
        yield batch("aX", index=1)
        yield batch("aX", "length", index=2)
        yield batch("a", "stop", index=3)

    dropped: set[int] = set()
    pieces = [piece async for piece in fold_all(folds, generate(), dropped)]
    assert dropped == {1}
    assert [piece.index for piece in pieces if piece.last] == [0, 1, 2], "the last one ends with the job"


async def test_likelihoods_are_those_of_the_content() -> None:
    fold = make_fold(likely=True, reasoning=True)
    pieces = await run([fold], batch("<think>no</think>\n\né!", "stop"))
    assert fold.logprobs is not None
    assert [token.token for token in fold.logprobs] == ["\ufffd", "\ufffd", "!"]
    assert bytes(byte for token in fold.logprobs for byte in token.bytes).decode() == "é!"
    assert [token.logprob for token in fold.logprobs] == [-0xC3, -0xA9, -0x21]
    assert [top.token for top in fold.logprobs[2].top_logprobs] == ["!"]
    # Each comes with the piece that it completes.
    assert [(piece.content, len(piece.logprobs)) for piece in pieces if piece.content] == [("é", 2), ("!", 1)]


async def test_a_stop_string_has_no_likelihoods() -> None:
    fold = make_fold("END", likely=True)
    await run([fold], batch("onEND", "stop"))
    assert [token.token for token in fold.logprobs or ()] == ["o", "n"]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([CALL, "text ", "\n", "<tool_call>", "STOP", "é"]), max_size=5).map("".join),
    st.integers(1, 9),
)
async def test_batches_make_no_difference(text: str, size: int) -> None:
    data = [*text.encode(), END]
    pieces = [TokenBatch(token_ids=data[i : i + size]) for i in range(0, len(data) - 1, size)]
    last = TokenBatch(token_ids=[END], finish_reason="stop")
    whole, cut = make_fold("STOP"), make_fold("STOP")
    await run([whole], TokenBatch(token_ids=data, finish_reason="stop"))
    pieces = [TokenBatch(token_ids=[i for i in one.token_ids if i != END]) for one in pieces]
    await run([cut], *pieces, last)
    assert cut.content == whole.content
    assert [call.function for call in cut.calls] == [call.function for call in whole.calls]
    assert cut.finish_reason == whole.finish_reason
    assert "STOP" not in cut.content
