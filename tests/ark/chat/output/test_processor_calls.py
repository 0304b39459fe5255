"""Tool calls and log-probabilities in a reply."""

from __future__ import annotations

from echo_backend import END, ByteStream, ByteTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from ark.chat.output.processor import Delta, OutputProcessor
from ark.chat.output.reasoning import ReasoningSplitter
from ark.chat.tools.formats import HERMES
from ark.chat.tools.parser import ToolParser
from ark.engines.chat import TokenBatch, TokenLogprob

CALL = '<tool_call>\n{"name": "look", "arguments": {"a": 1}}\n</tool_call>'


def processor(*stops: str, logprobs: bool = False, reasoning: bool = False, distinct: bool = False) -> OutputProcessor:
    return OutputProcessor(
        ByteStream(),
        splitter=ReasoningSplitter() if reasoning else None,
        stops=stops,
        calls=ToolParser(HERMES, {"look": {}}, distinct=distinct),
        token_bytes=ByteTokenizer().token_bytes if logprobs else None,
    )


def batch(text: str, finish_reason: str | None = None) -> TokenBatch:
    ids = [*text.encode(), *([END] if finish_reason == "stop" else [])]
    logprobs = [TokenLogprob(logprob=-float(i), top=[(i, -0.5)]) for i in ids]
    return TokenBatch(token_ids=ids, finish_reason=finish_reason, logprobs=logprobs)


def run(output: OutputProcessor, *batches: TokenBatch) -> list[Delta]:
    deltas: list[Delta] = []
    for one in batches:
        if output.finish_reason is None:
            deltas += output.push(one)
    return deltas


def test_a_call_is_taken_out_of_the_content() -> None:
    output = processor(reasoning=True)
    found = run(output, batch(f"<think>hm</think>\n\nI look.\n{CALL}", "stop"))
    (call,) = output.calls
    assert (output.reasoning, output.content, call.name, call.arguments) == ("hm", "I look.", "look", '{"a": 1}')
    assert output.finish_reason == "tool_calls"
    deltas = [delta for one in found for delta in one.calls]
    assert deltas[0].id == call.id
    assert "".join(delta.arguments for delta in deltas) == call.arguments
    (sent,) = output.message()["tool_calls"]
    assert (sent["id"], sent["function"]["arguments"]) == (call.id, {"a": 1})


def test_a_call_of_a_function_has_the_id_with_which_its_result_comes() -> None:
    output = processor()
    run(output, batch(f"{CALL}\n{CALL}", "stop"))
    assert len(output.message()["tool_calls"]) == 2
    (sent,) = output.message(legacy=True)["tool_calls"]
    assert sent["id"] == "call_look"


def test_a_reply_ends_before_it_repeats_a_call() -> None:
    other = CALL.replace("1", "12")
    again = CALL.replace('{"a": 1}', '{ "a" :1\n}')
    text = f"{CALL}\n{other}\n{again}\n{CALL.replace('1', '3')}"
    for stops in ((), ("\n</tool_call>\n<tool_call>\nX",)):
        output = processor(*stops, distinct=True)
        found = run(output, *(batch(letter) for letter in text))
        assert [call.arguments for call in output.calls] == ['{"a": 1}', '{"a": 12}']
        assert [delta.index for one in found for delta in one.calls if delta.id] == [0, 1]
        assert (output.finish_reason, output.content) == ("tool_calls", "")
        # The session's transcript ends where the last call that the client has seen does.
        assert text[: output.kept] == f"{CALL}\n{other}"
        assert len(output.message()["tool_calls"]) == 2


def test_a_call_that_may_be_a_repetition_is_told_when_the_reply_is_cut() -> None:
    output = processor(distinct=True)
    run(output, batch(f"{CALL}\n{CALL.partition(': 1')[0]}", "length"))
    assert [call.arguments for call in output.calls] == ['{"a": 1}', '{"a"']
    assert (output.finish_reason, output.kept) == ("length", None)


def test_a_call_that_is_cut_says_so() -> None:
    output = processor()
    run(output, batch(CALL.removesuffix("}}\n</tool_call>"), "length"))
    assert output.finish_reason == "length"
    assert output.calls[0].arguments == '{"a": 1'
    assert output.message()["tool_calls"][0]["function"]["arguments"] == '{"a": 1'


def test_a_call_that_a_stop_string_cuts_is_not_said_to_be_whole() -> None:
    """Clients parse the arguments of what ends with "tool_calls"."""
    output = processor('"a"')
    run(output, batch(CALL, "stop"))
    assert (output.calls[0].arguments, output.finish_reason) == ("{", "stop")
    behind = processor("</tool_call>")
    run(behind, batch(CALL, "stop"))
    assert (behind.calls[0].arguments, behind.finish_reason) == ('{"a": 1}', "tool_calls")


def test_what_looks_like_a_call_is_content() -> None:
    output = processor()
    run(output, batch("a <tool_call> b", "stop"))
    assert (output.content, output.calls, output.finish_reason) == ("a <tool_call> b", [], "stop")


def test_logprobs_are_those_of_the_content() -> None:
    output = processor(logprobs=True, reasoning=True)
    deltas = run(output, batch("<think>no</think>\n\né!", "stop"))
    assert output.logprobs is not None
    assert [token.token for token in output.logprobs] == ["\ufffd", "\ufffd", "!"]
    assert bytes(byte for token in output.logprobs for byte in token.bytes).decode() == "é!"
    assert [token.logprob for token in output.logprobs] == [-0xC3, -0xA9, -0x21]
    assert [top.token for top in output.logprobs[2].top_logprobs] == ["!"]
    # Each comes with the text that it completes.
    assert [(delta.content, len(delta.logprobs)) for delta in deltas if delta.content] == [("é", 2), ("!", 1)]


def test_a_stop_string_has_no_logprobs() -> None:
    output = processor("END", logprobs=True)
    run(output, batch("onEND", "stop"))
    assert [token.token for token in output.logprobs or ()] == ["o", "n"]


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([CALL, "text ", "\n", "<tool_call>", "STOP", "é"]), max_size=5).map("".join),
    st.integers(1, 9),
    st.booleans(),
)
def test_batches_make_no_difference(text: str, size: int, distinct: bool) -> None:
    data = [*text.encode()]
    whole, cut = processor("STOP", distinct=distinct), processor("STOP", distinct=distinct)
    run(whole, TokenBatch(token_ids=[*data, END], finish_reason="stop"))
    batches = [TokenBatch(token_ids=data[i : i + size]) for i in range(0, len(data), size)]
    run(cut, *batches, TokenBatch(token_ids=[END], finish_reason="stop"))
    assert cut.content == whole.content
    assert [(call.name, call.arguments) for call in cut.calls] == [(call.name, call.arguments) for call in whole.calls]
    assert cut.finish_reason == whole.finish_reason
    assert "STOP" not in cut.content
    assert (cut.kept, len(cut.calls) > 1 and distinct) == (whole.kept, False)


def test_of_a_call_that_is_cut_before_its_arguments_nothing_is_seen() -> None:
    output = processor()
    run(output, batch(f'I look.\n{CALL}\n<tool_call>\n{{"name": "loo', "length"))
    assert (output.content, len(output.calls), output.finish_reason) == ("I look.", 1, "length")
