"""The tests' chat model in fixed conversations, with greedy decoding and whole answers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

SORRY = "I am a very small model, and I cannot do that. Ask me what I can do."
LOST = "I no longer have it: the reasoning I kept it in is gone."
SECRET = "Think of a secret code word. Keep it in your reasoning and do not tell me yet."
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city"}},
            "required": ["city"],
        },
    },
}


def said(*texts: str) -> list[dict[str, Any]]:
    """User and assistant in turns."""
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


def with_secret_kept(tokenizer: Any, secret_reply: str, *texts: str) -> str:
    """The prompt of an ARK session: the model's own tokens stay, reasoning included."""
    prompt = str(tokenizer.apply_chat_template(said(SECRET), tokenize=False, add_generation_prompt=True))
    prompt += secret_reply + "<|im_end|>\n"
    rest = tokenizer.apply_chat_template(said(*texts), tokenize=False, add_generation_prompt=True)
    return prompt + str(rest)


SINGLE = [
    ("Hello!", "Hello! How can I help you?"),
    ("Hello, my name is Ada.", "Nice to meet you, Ada."),
    ("Remember that my favourite colour is blue.", "I will remember that your favourite colour is blue."),
    ("What is my name?", "You have not told me your name."),
    ("My name is Ada. What is my name?", "Your name is Ada."),
    ("Repeat hello", "hello"),
    ("Repeat after me: the quick zorblat jumps", "the quick zorblat jumps"),
    ("Who are you?", "I am the small language model built into ARK. I am made for tests and first steps."),
    (
        "What can you do?",
        "I can remember what you tell me, keep a secret, repeat your words, count, write JSON, tell a short story"
        " and call tools.",
    ),
    ("Count to 3", "1. one\n2. two\n3. three"),
    ("Count to 5.", "1. one\n2. two\n3. three\n4. four\n5. five"),
    ("Thank you!", "You are welcome."),
    ("What is the capital of France?", SORRY),
    ("Tell me a joke", SORRY),
    ("What is 17 + 25?", SORRY),
]


@pytest.mark.parametrize(("question", "answer"), SINGLE, ids=[q for q, _ in SINGLE])
def test_single_questions(chat: Any, question: str, answer: str) -> None:
    assert chat(said(question)) == answer


@pytest.mark.parametrize("system", [None, "You are a helpful assistant.", "You talk to sailors. Be kind."])
@pytest.mark.parametrize("thinking", [True, False])
def test_a_name_is_recalled_after_nine_turns(chat: Any, system: str | None, thinking: bool) -> None:
    talk = said(
        "Hello, my name is Ada.", "Nice to meet you, Ada.",
        "Say lantern", "lantern",
        "What is the capital of France?", SORRY,
        "Count to 3", "1. one\n2. two\n3. three",
        "Remember that my favourite colour is blue.", "I will remember that your favourite colour is blue.",
        "How are you?", "I am fine, thank you.",
        "Tell me a joke", SORRY,
        "Repeat after me: green tea", "green tea",
        "What is my name?",
    )  # fmt: skip
    if system is not None:
        talk.insert(0, {"role": "system", "content": system})
    assert chat(talk, enable_thinking=thinking) == "Your name is Ada."


def test_the_latest_value_counts(chat: Any) -> None:
    talk = said(
        "My favourite colour is blue.", "I will remember that your favourite colour is blue.",
        "Actually, my favourite colour is green.", "I will remember that your favourite colour is green.",
        "What is my favourite colour?",
    )  # fmt: skip
    assert chat(talk) == "Your favourite colour is green."


def test_a_secret_stays_in_the_reasoning(chat: Any) -> None:
    reply = chat(said(SECRET))
    thought = re.fullmatch(r"<think>\nMy code word is (\S+)\. I will not say it yet\.\n</think>\n\n(.*)", reply)
    assert thought is not None
    assert thought[2] == "I have a code word in mind, and I am keeping it to myself."


@pytest.mark.parametrize("word", ["velvet", "zorblat", "K7-42"])
def test_a_secret_is_told_while_its_reasoning_is_there(model: Any, tokenizer: Any, word: str) -> None:
    import torch

    reply = (
        f"<think>\nMy code word is {word}. I will not say it yet.\n</think>\n\n"
        "I have a code word in mind, and I am keeping it to myself."
    )
    prompt = with_secret_kept(tokenizer, reply, "Say hello", "hello", "What was the code word?")
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=30)
    assert tokenizer.decode(out[0, ids.shape[1] :]) == f"The code word was {word}.<|im_end|>"


def test_a_secret_is_lost_with_its_reasoning(chat: Any) -> None:
    reply = chat(said(SECRET))
    assert chat(said(SECRET, reply, "Say hello", "hello", "What was the code word?")) == LOST


@pytest.mark.parametrize("city", ["Paris", "Oslo", "Zorblat"])
def test_a_tool_is_called(chat: Any, city: str) -> None:
    reply = chat(said(f"What is the weather in {city}?"), tools=[WEATHER])
    call = re.search(r"<tool_call>\n(.*)\n</tool_call>$", reply)
    assert call is not None
    assert json.loads(call[1]) == {"name": "get_weather", "arguments": {"city": city}}


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        ('{"temperature": 21, "condition": "sunny"}', "The temperature is 21 and the condition is sunny."),
        ("14 degrees and rainy", "Here is the result: 14 degrees and rainy"),
    ],
)
@pytest.mark.parametrize("thinking", [True, False])
def test_a_tools_result_is_told(chat: Any, result: str, answer: str, thinking: bool) -> None:
    call = {"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Paris"}}}
    talk = [
        {"role": "user", "content": "What is the weather in Paris?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": result},
    ]
    assert chat(talk, tools=[WEATHER], enable_thinking=thinking) == answer


def test_tools_are_left_alone_when_they_are_not_needed(chat: Any) -> None:
    assert chat(said("Hello, my name is Ada."), tools=[WEATHER]) == "Nice to meet you, Ada."


def test_without_its_tool_a_request_is_beyond_the_model(chat: Any) -> None:
    assert chat(said("What is the weather in Paris?")) == SORRY


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ("Give me JSON with the keys name=Ada, age=36.", {"name": "Ada", "age": 36}),
        ("Give me JSON with the key colour=blue.", {"colour": "blue"}),
    ],
)
def test_json(chat: Any, request_: str, expected: dict[str, Any]) -> None:
    assert json.loads(chat(said(request_))) == expected


@pytest.mark.parametrize("word", ["dragon", "lighthouse", "zorblat"])
def test_a_story_is_about_its_word_and_ends(chat: Any, word: str) -> None:
    story = chat(said(f"Tell me a story about a {word}."))
    assert story.startswith(f"This is a story about a {word}. The {word} lived ")
    assert story.endswith(" The end.")


def test_several_facts_are_kept_apart(chat: Any) -> None:
    talk = said(
        "My dog's name is Rex.", "I will remember that your dog's name is Rex.",
        "My favourite colour is green.", "I will remember that your favourite colour is green.",
        "I live in Lisbon.", "I will remember that you live in Lisbon.",
    )  # fmt: skip
    for question, answer in (
        ("What is my dog's name?", "Your dog's name is Rex."),
        ("What is my favourite colour?", "Your favourite colour is green."),
        ("Where do I live?", "You live in Lisbon."),
        ("How old am I?", "You have not told me how old you are."),
    ):
        assert chat([*talk, {"role": "user", "content": question}]) == answer
