"""Prompts, case by case."""

from __future__ import annotations

from typing import Any

import pytest
from prompting import CALL, TOOLS, assistant, begin, builder_of, go_on, reply, user

from ark.chat.prompt.builder import fingerprint, truncate_ids
from ark.errors import BadRequest, ContextLengthExceeded
from ark.sessions.transcript import Continuation, read_messages, unpack_tokens


def test_a_first_prompt_is_the_templates_rendering(tokenizer: Any) -> None:
    messages = [user("hello world")]
    prompt = begin(tokenizer, *messages)
    assert prompt.ids == tokenizer.encode(tokenizer.render(messages))
    assert (prompt.continuation.how, prompt.retained) == ("created", 0)


def test_reasoning_that_the_template_strips_stays(of_shape: Any) -> None:
    tokenizer = of_shape("chatml")
    transcript = reply(tokenizer, begin(tokenizer, user("hi")), "<think>\nblue\n</think>\n\nhello", assistant("hello"))
    prompt = go_on(tokenizer, transcript, user("and?"))
    assert tokenizer.decode(prompt.ids) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\nblue\n</think>\n\nhello<|im_end|>\n"
        "<|im_start|>user\nand?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompt.retained == transcript.length


def test_a_prompt_that_opens_the_reasoning_says_so_and_the_opening_stays(of_shape: Any) -> None:
    tokenizer = of_shape("opened")
    first = begin(tokenizer, user("hi"))
    assert first.ending.rstrip().endswith("<think>")
    transcript = reply(tokenizer, first, "blue</think>yes", assistant("yes"))
    prompt = go_on(tokenizer, transcript, user("and?"))
    assert tokenizer.decode(prompt.ids) == (
        "<|user|>hi<|assistant|><think>\nblue</think>yes<|eos|><|user|>and?<|assistant|><think>\n"
    )


def test_openings_that_change_from_prompt_to_prompt(of_shape: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder remembers how many ids the last one was."""
    tokenizer = of_shape("opened")
    plain = tokenizer.render

    def render(messages: Any, *, add_generation_prompt: bool, **options: Any) -> str:
        return str(plain(messages, add_generation_prompt=False) + opening * add_generation_prompt)

    monkeypatch.setattr(tokenizer, "render", render)
    builder = builder_of(tokenizer)
    # The last ids of some are those of words that the text before begins.
    openings = ["<|assistant|>", "<|assistant|><think>\n", "<|assistant|>", "a", "", "<|assistant|>" * 40, "lo", "orld"]
    for opening in openings:
        for text in ("", "hi", "the quick brown fox", "hel", "hello w", "hi"):
            continuation = Continuation(read_messages([user(text)]))
            prompt = builder.build(continuation)
            assert prompt.opening == builder_of(tokenizer).build(continuation).opening
            if prompt.opening.start >= 0:
                assert tokenizer.decode(prompt.ids[prompt.opening.start :]) == opening


def test_a_reply_cut_by_its_length_is_closed_as_the_template_closes_it(of_shape: Any) -> None:
    tokenizer = of_shape("chatml")
    first = begin(tokenizer, user("hi"))
    transcript = first.finish(tokenizer.encode("hello wor"), assistant("hello wor"), stop_ids=tokenizer.stop_token_ids)
    prompt = go_on(tokenizer, transcript, user("and?"))
    assert "hello wor<|im_end|>\n<|im_start|>user\nand?" in tokenizer.decode(prompt.ids)
    assert prompt.retained == transcript.length


def test_a_stop_id_that_the_template_does_not_write_gives_way(of_shape: Any) -> None:
    tokenizer = of_shape("llama3")
    transcript = reply(tokenizer, begin(tokenizer, user("hi")), "hello", assistant("hello"), stop="<|eom_id|>")
    prompt = go_on(tokenizer, transcript, user("and?"))
    assert "hello<|eot_id|><|start_header_id|>user" in tokenizer.decode(prompt.ids)
    assert prompt.retained == transcript.length - 1
    again = go_on(tokenizer, reply(tokenizer, prompt, "yes", assistant("yes")), user("more"))
    assert "<|eom_id|>" not in tokenizer.decode(again.ids)


def test_a_changed_date_keeps_the_replies_own_tokens(of_shape: Any) -> None:
    tokenizer = of_shape("llama3")
    transcript = reply(tokenizer, begin(tokenizer, user("hi")), "<think>blue</think>hello", assistant("hello"))
    tokenizer.date = "02 Jan 2026"
    prompt = go_on(tokenizer, transcript, user("and?"))
    text = tokenizer.decode(prompt.ids)
    assert "02 Jan" in text
    assert "01 Jan" not in text
    assert "<think>blue</think>hello<|eot_id|>" in text
    assert 0 < prompt.retained < transcript.length
    # From now on the new date is the past: nothing changes any more.
    after = reply(tokenizer, prompt, "yes", assistant("yes"))
    assert go_on(tokenizer, after, user("more")).retained == after.length


def test_tools_that_move_to_the_last_question_leave_the_replies_tokens(of_shape: Any) -> None:
    tokenizer = of_shape("mistral")
    first = begin(tokenizer, user("one"), tools=TOOLS)
    transcript = reply(tokenizer, first, " <think>blue</think>yes", assistant("yes"))
    prompt = go_on(tokenizer, transcript, user("two"), tools=TOOLS)
    text = tokenizer.decode(prompt.ids)
    assert text.startswith("<s>[INST] one[/INST] <think>blue</think>yes</s>[AVAILABLE_TOOLS]")
    third = go_on(tokenizer, reply(tokenizer, prompt, " no", assistant("no")), user("three"), tools=TOOLS)
    # The first reply's past is stable by now, so its tokens are not even moved.
    assert third.retained >= tokenizer.encode(text).index(tokenizer.core.token_to_id("</s>"))
    assert "<think>blue</think>yes</s>[INST] two[/INST] no</s>[AVAIL" in tokenizer.decode(third.ids)


@pytest.mark.parametrize("shape", ["chatml", "llama3", "mistral"])
def test_a_tool_call_and_its_result(of_shape: Any, shape: str) -> None:
    tokenizer = of_shape(shape)
    call = {
        "chatml": '<think>\nblue\n</think>\n\n<tool_call>\n{"name": "look", "arguments": {"at": "sea"}}\n</tool_call>',
        "llama3": '{"name": "look", "parameters": {"at": "sea"}}',
        "mistral": '[TOOL_CALLS] [{"name": "look", "arguments": {"at": "sea"}}]',
    }[shape]
    called = assistant("", tool_calls=[CALL])
    result = {"role": "tool", "content": "waves", "tool_call_id": "c1"}
    first = begin(tokenizer, user("look"), tools=TOOLS)
    # The template would write this reasoning as long as no question follows, and then no more.
    told = {**called, "reasoning_content": "blue"} if shape == "chatml" else called
    second = go_on(tokenizer, reply(tokenizer, first, call, told), result, tools=TOOLS)
    assert call in tokenizer.decode(second.ids)
    rendering = tokenizer.render([user("look"), called, result], tools=TOOLS)
    assert tokenizer.decode(second.ids).replace("<think>\nblue\n</think>\n\n", "") == rendering
    third = go_on(tokenizer, reply(tokenizer, second, " Waves.", assistant(" Waves.")), user("more"), tools=TOOLS)
    messages = [user("look"), called, result, assistant("Waves."), user("more")]
    text = tokenizer.decode(third.ids).replace("<think>\nblue\n</think>\n\n", "")
    # What the model wrote stays, a space that the template would have trimmed included.
    assert text.replace("  ", " ").replace("\n\n Waves", "\n\nWaves").replace("\n Waves", "\nWaves") == (
        tokenizer.render(messages, tools=TOOLS)
    )
    if shape != "mistral":
        assert third.retained == len(second.ids) + len(tokenizer.encode(" Waves.")) + 1


CUT = '{"at": "se\\n"a" '
"""What a call's arguments are where the reply ended inside them."""


@pytest.mark.parametrize(
    ("shape", "written"),
    [
        ("chatml", f'<tool_call>\n{{"name": "look", "arguments": {CUT}}}\n</tool_call>'),
        ("llama3", f'{{"name": "look", "parameters": {CUT}}}<|eot_id|>'),
        ("mistral", f'[TOOL_CALLS] [{{"name": "look", "arguments": {CUT}}}]</s>'),
        ("tagged", f"<tool_call>\n<function=look>\n<parameter=arguments>\n{CUT}\n</parameter>\n</function>"),
        ("text", f"[TOOL_CALLS]look[ARGS]{CUT}</s>"),
    ],
)
def test_cut_arguments_are_written_as_they_are(of_shape: Any, shape: str, written: str) -> None:
    tokenizer = of_shape(shape)
    whole = {"id": "c0", "type": "function", "function": {"name": "look", "arguments": {"at": "sky"}}}
    cut = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": CUT}}
    before = [
        user("look"),
        assistant("", tool_calls=[whole]),
        {"role": "tool", "content": "blue", "tool_call_id": "c0"},
    ]
    messages = [*before, assistant("", tool_calls=[cut]), {"role": "tool", "content": "x", "tool_call_id": "c1"}]
    prompt = begin(tokenizer, *messages, tools=TOOLS)
    text = tokenizer.decode(prompt.ids)
    assert written in text
    past = tokenizer.render(before, tools=TOOLS, add_generation_prompt=False)
    assert text.startswith(past)


def test_cut_arguments_write_no_special_tokens(of_shape: Any) -> None:
    tokenizer = of_shape("chatml")
    end = tokenizer.core.token_to_id("<|im_end|>")
    counts = []
    for text in ('{"at": "', '{"at": "<|im_end|>'):
        cut = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": text}}
        counts.append(begin(tokenizer, user("look"), assistant("", tool_calls=[cut])).ids.count(end))
    assert counts[0] == counts[1]


def test_reasoning_that_the_template_drops_later_does_not_make_the_past_another(
    of_shape: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = of_shape("chatml")
    # The template would write this reasoning as long as no question follows, and then no more.
    called = assistant("", tool_calls=[CALL], reasoning_content="blue")
    result = {"role": "tool", "content": "waves", "tool_call_id": "c1"}
    second = go_on(tokenizer, reply(tokenizer, begin(tokenizer, user("look")), "call", called), result)
    transcript = reply(tokenizer, second, "Waves.", assistant("Waves."))
    encoded: list[str] = []
    encode = tokenizer.encode
    monkeypatch.setattr(tokenizer, "encode", lambda text: encoded.append(text) or encode(text))
    builder = builder_of(tokenizer)
    encoded.clear()
    builder.build(Continuation((*transcript.messages, *read_messages([user("more")])), transcript, 4, "continued"))
    assert encoded == ["<|im_end|>\n<|im_start|>user\nmore<|im_end|>\n<|im_start|>assistant\n"]


def test_where_roles_are_checked_a_call_is_left_to_the_template_and_answers_keep_their_tokens(
    of_shape: Any,
) -> None:
    tokenizer = of_shape("mistral")
    called = assistant("", tool_calls=[CALL])
    result = {"role": "tool", "content": "waves", "tool_call_id": "c1"}
    transcript = reply(tokenizer, begin(tokenizer, user("one"), tools=TOOLS), "my own way to call", called)
    second = go_on(tokenizer, transcript, result, tools=TOOLS)
    assert "my own way to call" in tokenizer.decode(second.ids)
    transcript = reply(tokenizer, second, " <think>blue</think>yes", assistant("yes"))
    prompt = go_on(tokenizer, transcript, user("two"), tools=TOOLS)
    assert tokenizer.decode(prompt.ids).replace("<think>blue</think>", "") == tokenizer.render(
        [user("one"), called, result, assistant("yes"), user("two")], tools=TOOLS
    )
    assert "<think>blue</think>yes" in tokenizer.decode(prompt.ids)


def test_text_behind_a_reply_is_not_encoded_as_the_beginning_of_a_text(
    of_shape: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = of_shape("chatml")
    encode = tokenizer.encode
    # As tokenizers of the SentencePiece kind do: a space before the first word of a text.
    monkeypatch.setattr(tokenizer, "encode", lambda text: encode(text if text[:1] in "<" else " " + text))
    transcript = reply(tokenizer, begin(tokenizer, user("hi")), "<b>", assistant("<b>"))
    prompt = go_on(tokenizer, transcript, user("and?"))
    assert "<b><|im_end|>\n<|im_start|>user" in tokenizer.decode(prompt.ids)


def test_other_tools_in_the_system_message_keep_the_replies_reasoning(of_shape: Any) -> None:
    tokenizer = of_shape("chatml")
    transcript = reply(tokenizer, begin(tokenizer, user("hi")), "<think>\nblue\n</think>\n\nhello", assistant("hello"))
    prompt = go_on(tokenizer, transcript, user("and?"), tools=TOOLS)
    text = tokenizer.decode(prompt.ids)
    assert text.startswith("<|im_start|>system\n# Tools")
    assert "blue" in text


def test_thinking_switched_off_leaves_the_past_as_it_is(of_shape: Any) -> None:
    tokenizer = of_shape("chatml")
    off = {"enable_thinking": False}
    first = begin(tokenizer, user("hi"), template_kwargs=off)
    transcript = reply(tokenizer, first, "hello", assistant("hello"))
    prompt = go_on(tokenizer, transcript, user("and?"))
    assert prompt.retained == transcript.length
    assert tokenizer.decode(prompt.ids).count("<think>\n\n</think>") == 1


def test_a_rewind_keeps_the_reasoning_before_it_and_nothing_behind(of_shape: Any) -> None:
    tokenizer = of_shape("chatml")
    first = reply(tokenizer, begin(tokenizer, user("hi")), "<think>\nblue\n</think>\n\nA", assistant("A"))
    second = go_on(tokenizer, first, user("and?"))
    second_done = reply(tokenizer, second, "<think>\nred\n</think>\n\nB", assistant("B"))
    messages = (*second_done.messages[:2], *read_messages([user("or?")]))
    prompt = builder_of(tokenizer).build(Continuation(messages, second_done, 2, "rewound"))
    text = tokenizer.decode(prompt.ids)
    assert "blue" in text
    assert "red" not in text
    assert "and?" not in text
    assert prompt.retained >= first.length


def test_a_regenerated_reply_reads_the_same_prompt_again(tokenizer: Any) -> None:
    first = begin(tokenizer, user("hi"))
    transcript = reply(tokenizer, first, "hello", assistant("hello"))
    again = builder_of(tokenizer).build(Continuation(transcript.messages[:1], transcript, 1, "rewound"))
    assert again.ids == first.ids
    assert again.retained == len(first.ids)


def test_a_request_that_ends_with_a_reply_asks_for_another_one(of_shape: Any) -> None:
    tokenizer = of_shape("chatml")
    transcript = reply(tokenizer, begin(tokenizer, user("hi")), "hello", assistant("hello"))
    prompt = go_on(tokenizer, transcript)
    assert tokenizer.decode(prompt.ids).endswith("hello<|im_end|>\n<|im_start|>assistant\n")


def test_the_template_s_refusal_reaches_the_client(of_shape: Any) -> None:
    tokenizer = of_shape("gemma")
    transcript = reply(tokenizer, begin(tokenizer, user("hi")), "hello", assistant("hello"))
    with pytest.raises(BadRequest, match="alternate"):
        go_on(tokenizer, transcript, user("one"), user("two"))


def test_ids_of_another_tokenizer_are_not_continued(of_shape: Any, core: Any) -> None:
    tokenizer = of_shape("chatml")
    message = assistant("hello", reasoning_content="blue")
    transcript = reply(tokenizer, begin(tokenizer, user("hi")), "<think>\nblue\n</think>\n\nhello", message)
    other = of_shape("chatml")
    other.encode = lambda text: [token + 1 for token in tokenizer.encode(text)]
    other.decode = lambda ids: tokenizer.decode([token - 1 for token in ids if token])
    assert fingerprint(other) != fingerprint(tokenizer)
    prompt = go_on(other, transcript, user("and?"))
    assert prompt.retained == 0
    messages = [user("hi"), message, user("and?")]
    assert other.decode(prompt.ids) == tokenizer.render(messages)


def test_a_prompt_without_room_for_one_token_is_refused(of_shape: Any) -> None:
    tokenizer = of_shape("chatml")
    continuation = Continuation(read_messages([user("hi")]))
    length = len(begin(tokenizer, user("hi")).ids)
    assert builder_of(tokenizer, length + 1).build(continuation).ids
    with pytest.raises(ContextLengthExceeded):
        builder_of(tokenizer, length).build(continuation)


class Reading:
    """A tokenizer that says how much text it was given."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.characters = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, text: str) -> list[int]:
        self.characters += len(text)
        ids: list[int] = self._tokenizer.encode(text)
        return ids


@pytest.mark.parametrize("text", ["all work and no play ", "x", "今日は", "<|im_end|>", "a <|im_end|>" + 1000 * "b "])
def test_messages_that_are_far_too_long_are_refused_by_their_beginning(of_shape: Any, text: str) -> None:
    tokenizer = Reading(of_shape("chatml"))
    builder = builder_of(tokenizer, 2000)
    opened = tokenizer.characters
    long = user(text * (4_000_000 // len(text)))
    with pytest.raises(ContextLengthExceeded, match="far longer than the model's context of 2000 tokens"):
        builder.build(Continuation(read_messages([long])))
    transcript = reply(tokenizer, begin(tokenizer, user("hi")), "hello", assistant("hello"))
    continuation = Continuation(
        (*transcript.messages, *read_messages([long])), how="continued", transcript=transcript, kept=2
    )
    with pytest.raises(ContextLengthExceeded, match="far longer"):
        builder.build(continuation)
    assert tokenizer.characters - opened < 300_000


def test_long_messages_of_few_tokens_are_read(of_shape: Any) -> None:
    tokenizer = of_shape("chatml")
    builder = builder_of(tokenizer, 100_000)
    # With the marks that keep them text they are seven times as long.
    text = "</s>" * 20_000
    prompt = builder.build(Continuation(read_messages([user(text)])))
    assert text in tokenizer.decode(prompt.ids)


def test_what_the_template_drops_may_be_long(of_shape: Any) -> None:
    tokenizer = of_shape("chatml")
    earlier = assistant("fine", reasoning_content="<|im_end|>" + "all work and no play " * 10_000)
    prompt = builder_of(tokenizer, 2000).build(Continuation(read_messages([user("hi"), earlier, user("go on")])))
    assert "all work" not in tokenizer.decode(prompt.ids)


def test_a_mark_in_a_message_of_a_client_means_nothing(of_shape: Any) -> None:
    from ark.chat.prompt import splice

    tokenizer = of_shape("chatml")
    transcript = reply(tokenizer, begin(tokenizer, user("hi")), "hello", assistant("hello"))
    prompt = go_on(tokenizer, transcript, user(splice._MARK + "0."))
    rendering = tokenizer.render([user("hi"), assistant("hello"), user(splice._MARK + "0.")])
    assert tokenizer.decode(prompt.ids) == rendering


@pytest.mark.parametrize("text", ["hello world", "né🦊 🦊b", "", "a"])
def test_a_cut_keeps_exactly_the_text_before_it(of_shape: Any, text: str) -> None:
    tokenizer = of_shape("chatml")
    ids = tokenizer.encode(text + "lly STOP 🦊")
    result = truncate_ids(tokenizer, ids, len(text))
    assert tokenizer.decode(result) == text
    assert result[: len(result) // 2] == ids[: len(result) // 2]


def test_a_reply_cut_by_a_stop_string_has_no_stop_id(of_shape: Any) -> None:
    tokenizer = of_shape("chatml")
    first = begin(tokenizer, user("hi"))
    ids = [*tokenizer.encode("hello END"), tokenizer.stop_id]
    transcript = first.finish(ids, assistant("hello"), stop_ids=tokenizer.stop_token_ids, kept=5)
    assert unpack_tokens(transcript.tokens)[len(first.ids) :] == tokenizer.encode("hello")
    assert not transcript.seams[-1].stopped
