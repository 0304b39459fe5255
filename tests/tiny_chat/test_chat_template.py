"""The chat template: what a model reads, with reasoning kept, stripped and switched off."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tools.training.chat import generate, render
from tools.training.chat.dialogue import Dialogue, Message, ToolCall
from tools.training.chat.lexicon import Lexicon

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather <now> & soon",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich"}}}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


@pytest.fixture
def rendered(tokenizer: Any) -> Any:
    def render_(messages: list[dict[str, Any]], **options: Any) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))

    return render_


def test_turns_are_framed(rendered: Any) -> None:
    text = rendered([{"role": "system", "content": "Be brief."}, user("Hi")], add_generation_prompt=True)
    assert text == ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_reasoning_before_the_last_question_is_dropped(rendered: Any) -> None:
    messages = [
        user("a"),
        assistant("b", reasoning_content="hidden"),
        user("c"),
        assistant("d", reasoning_content="seen"),
    ]
    text = rendered(messages)
    assert "hidden" not in text
    assert text.endswith("<|im_start|>assistant\n<think>\nseen\n</think>\n\nd<|im_end|>\n")


def test_reasoning_inside_the_content_is_the_same_as_beside_it(rendered: Any) -> None:
    inside = [user("a"), assistant("<think>\nhm\n</think>\n\nb")]
    beside = [user("a"), assistant("b", reasoning_content="hm")]
    assert rendered(inside) == rendered(beside)
    assert "hm" in rendered(inside)
    assert "hm" not in rendered([*inside, user("c")])
    assert "<think>" not in rendered([*inside, user("c")])


def test_reasoning_around_a_tool_call_is_kept_until_the_next_question(rendered: Any) -> None:
    messages = [
        user("Weather?"),
        assistant("", reasoning_content="I need it.", tool_calls=[CALL]),
        {"role": "tool", "content": "sunny"},
    ]
    assert "<think>\nI need it.\n</think>\n\n<tool_call>\n" in rendered(messages)
    assert "I need it." not in rendered([*messages, assistant("Sunny."), user("Thanks")])


def test_thinking_can_be_switched_off(rendered: Any) -> None:
    off = rendered([user("Hi")], add_generation_prompt=True, enable_thinking=False)
    assert off.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    on = rendered([user("Hi")], add_generation_prompt=True, enable_thinking=True)
    assert on.endswith("<|im_start|>assistant\n")


def test_tools_are_listed_as_plain_json(rendered: Any) -> None:
    text = rendered([{"role": "system", "content": "S"}, user("Hi")], tools=[TOOL])
    listed = text.split("<tools>\n")[1].split("\n</tools>")[0]
    assert json.loads(listed) == TOOL
    assert "<now> & soon" in listed
    assert text.startswith("<|im_start|>system\nS\n\n# Tools\n")


def test_calls_and_results_have_qwens_form(rendered: Any) -> None:
    messages = [
        user("Weather?"),
        assistant("", tool_calls=[CALL, CALL]),
        {"role": "tool", "content": "one"},
        {"role": "tool", "content": "two"},
    ]
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich"}}\n</tool_call>'
    assert rendered(messages).endswith(
        f"<|im_start|>assistant\n{call}\n{call}<|im_end|>\n<|im_start|>user\n<tool_response>\none\n</tool_response>\n"
        "<tool_response>\ntwo\n</tool_response><|im_end|>\n"
    )


def test_arguments_may_be_a_string_as_in_openais_api(rendered: Any) -> None:
    as_text = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    text = rendered([user("x"), assistant(None, tool_calls=[as_text])])  # type: ignore[arg-type]
    assert '{"name": "f", "arguments": {"a": 1}}' in text


def _template_view(dialogue: Dialogue) -> list[dict[str, Any]]:
    """In a session without reasoning the last turn has an empty thought, which a client writes as ""."""
    messages = [message.as_dict() for message in dialogue.messages]
    if dialogue.thinking == "off":
        last = max(i for i, m in enumerate(messages) if m["role"] == "user")
        for message in messages[last:]:
            if message["role"] == "assistant":
                message["reasoning_content"] = ""
    return messages


def test_training_reads_what_the_template_writes(rendered: Any) -> None:
    rng = random.Random(3)
    compared = 0
    for _ in range(400):
        dialogue = generate.dialogue(rng, Lexicon("train"), generate.Shape(60, 900))
        if dialogue.thinking == "kept":
            continue  # the history of an ARK session, which no template writes
        mine = render.text(dialogue, rng)
        if dialogue.thinking == "off" and mine.count("<think>") > 1 + sum(m.role == "tool" for m in dialogue.messages):
            continue
        if dialogue.thinking == "off" and dialogue.messages[-2].role == "tool":
            continue
        assert mine == rendered(_template_view(dialogue), tools=dialogue.tools or None)
        compared += 1
    assert compared > 100


def test_a_kept_history_has_all_its_reasoning() -> None:
    kept = Dialogue(
        [Message("user", "a"), Message("assistant", "b", "why"), Message("user", "c"), Message("assistant", "d")],
        "kept",
        [],
    )
    assert "<think>\nwhy\n</think>\n\nb<|im_end|>" in render.text(kept, random.Random(0))


def test_only_replies_are_learned() -> None:
    call = Message("assistant", "", "I will call f.", (ToolCall("f", {"a": "b"}),))
    dialogue = Dialogue([Message("user", "x"), call, Message("tool", "y"), Message("assistant", "z")], "kept", [])
    learned = [text for text, learn in render.pieces(dialogue, random.Random(1)) if learn]
    assert learned[0].startswith("<think>\nI will call f.\n</think>\n\n<tool_call>")
    assert learned[1] == "z<|im_end|>"
    assert len(learned) == 2


def test_a_stripped_reply_that_once_had_reasoning_is_not_learned() -> None:
    messages = [Message("user", "a"), Message("assistant", "b", "why"), Message("user", "c"), Message("assistant", "d")]
    pieces = render.pieces(Dialogue(messages, "stripped", []), random.Random(0))
    assert [text for text, learn in pieces if learn] == ["d<|im_end|>"]
