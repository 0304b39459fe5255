"""Tokens to text."""

from __future__ import annotations

from echo_backend import END, ByteStream

from ark.chat.output.processor import Delta, OutputProcessor
from ark.chat.output.reasoning import ReasoningSplitter
from ark.engines.chat import TokenBatch


def batch(text: str, finish_reason: str | None = None) -> TokenBatch:
    ids = [*text.encode(), *([END] if finish_reason == "stop" else [])]
    return TokenBatch(token_ids=ids, finish_reason=finish_reason)


def processor(*stops: str, reasoning: bool = False) -> OutputProcessor:
    return OutputProcessor(ByteStream(), splitter=ReasoningSplitter() if reasoning else None, stops=stops)


def run(output: OutputProcessor, *batches: TokenBatch) -> list[Delta]:
    deltas: list[Delta] = []
    for one in batches:
        assert output.finish_reason is None
        deltas += output.push(one)
    assert output.finish_reason is not None
    return deltas


def test_each_token_gives_a_delta() -> None:
    output = processor()
    assert run(output, batch("hi", "stop")) == [Delta(content="h"), Delta(content="i")]
    assert output.finish_reason == "stop"
    assert output.content == "hi"


def test_characters_are_whole() -> None:
    deltas = run(processor(), batch("aé☃"), batch("", "stop"))
    assert [delta.content for delta in deltas] == ["a", "é", "☃"]


def test_every_token_is_counted() -> None:
    output = processor()
    run(output, batch("hé"), batch("", "stop"))
    assert output.token_ids == [*"hé".encode(), END]
    assert output.reasoning_tokens == 0


def test_half_a_character_at_the_end_becomes_a_replacement() -> None:
    output = processor()
    run(output, TokenBatch(token_ids="é".encode()[:1], finish_reason="length"))
    assert output.content == "\N{REPLACEMENT CHARACTER}"
    assert output.finish_reason == "length"


def test_a_stop_string_over_several_batches_ends_the_reply() -> None:
    output = processor("END")
    run(output, batch("one E"), batch("ND two"))
    assert output.content == "one "
    assert output.finish_reason == "stop"
    assert output.token_ids == list(b"one END")


def test_what_a_stop_string_held_back_comes_at_the_end() -> None:
    output = processor("END")
    run(output, batch("one EN", "length"))
    assert output.content == "one EN"
    assert output.finish_reason == "length"


def test_a_stop_string_that_is_complete_only_with_the_last_character() -> None:
    output = processor("\N{REPLACEMENT CHARACTER}")
    run(output, TokenBatch(token_ids=b"a\xc3", finish_reason="length"))
    assert output.content == "a"
    assert output.finish_reason == "stop"


def test_the_id_that_stopped_the_reply_gives_no_text() -> None:
    """It may be an ordinary one, of the request's `stop_token_ids`."""
    output = processor()
    run(output, TokenBatch(token_ids=b"ab."), TokenBatch(token_ids=b"c.", finish_reason="stop"))
    assert output.content == "ab.c"
    assert output.token_ids == list(b"ab.c.")
    last = processor()
    run(last, TokenBatch(token_ids=b"c.", finish_reason="length"))
    assert last.content == "c."


def test_reasoning_is_split_off_and_counted() -> None:
    output = processor(reasoning=True)
    deltas = run(output, batch("<think>why</think>so", "stop"))
    assert (output.reasoning, output.content) == ("why", "so")
    assert all(not (delta.reasoning and delta.content) for delta in deltas)
    assert output.reasoning_tokens == len("<think>why</think>") - len("<think")


def test_stop_strings_are_not_looked_for_in_reasoning() -> None:
    output = processor(".", reasoning=True)
    run(output, batch("<think>a.b</think>c.d", "stop"))
    assert (output.reasoning, output.content) == ("a.b", "c")


def test_stop_strings_are_looked_for_behind_min_tokens() -> None:
    output = OutputProcessor(ByteStream(), stops=["b"], min_tokens=3)
    run(output, batch("abcabc", "stop"))
    assert (output.content, output.finish_reason, output.kept) == ("abca", "stop", 4)
