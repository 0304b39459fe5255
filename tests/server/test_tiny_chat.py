"""A model that reasons, OpenAI's client, and what a session means."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from fixture_models import only
from running import Running, serve

from ark.app import create_app

Messages = list[dict[str, Any]]

SECRET = "Think of a secret code word. Keep it in your reasoning and do not tell me yet."
QUESTION = "What was the code word?"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serve(create_app(only("chat"))) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
    ) as client:
        yield client


def say(client: openai.OpenAI, messages: Messages, **more: Any) -> Any:
    """The reply's message."""
    typed: Any = messages
    return client.chat.completions.create(model="gpt-4o", messages=typed, **more).choices[0].message


def user(content: str) -> dict[str, Any]:
    return {"role": "user", "content": content}


def test_the_readme_client_prints_an_answer_that_recalls_what_it_was_told(client: openai.OpenAI) -> None:
    messages = [user("Hello! My name is Ada.")]
    messages.append(say(client, messages))
    messages.append(user("What is my name?"))
    typed: Any = messages
    stream = client.chat.completions.create(model="gpt-4o", messages=typed, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "Ada" in text


def test_a_session_knows_the_secret_of_its_reasoning(client: openai.OpenAI) -> None:
    session = {"ark_stateful": str(uuid.uuid4())}
    first = say(client, [user(SECRET)], extra_body=session)
    word = secret_word(first)
    assert word not in first.content
    say(client, [user("Hello!")], extra_body=session)
    third = say(client, [user(QUESTION)], extra_body=session)
    assert word in third.content


def test_a_cookie_session_knows_it_too_though_the_client_sends_back_only_what_it_saw(client: openai.OpenAI) -> None:
    messages = [user(SECRET)]
    first = say(client, messages)
    word = secret_word(first)
    messages += [{"role": "assistant", "content": first.content}, user("Hello!")]
    messages.append({"role": "assistant", "content": say(client, messages).content})
    messages.append(user(QUESTION))
    assert word in say(client, messages).content


def test_so_does_a_client_that_returns_no_cookie(client: openai.OpenAI) -> None:
    def ask() -> Any:
        # Nothing but what OpenAI's client for npm sends.
        return say(client, messages, extra_headers={"cookie": ""})

    messages = [user(SECRET)]
    first = ask()
    word = secret_word(first)
    messages += [{"role": "assistant", "content": first.content}, user("Hello!")]
    messages += [{"role": "assistant", "content": ask().content}, user(QUESTION)]
    assert word in ask().content


def test_without_a_session_the_secret_is_gone_and_the_model_says_so(client: openai.OpenAI) -> None:
    stateless = {"ark_stateful": False}
    messages = [user(SECRET)]
    first = say(client, messages, extra_body=stateless)
    word = secret_word(first)
    messages += [{"role": "assistant", "content": first.content}, user("Hello!")]
    messages.append({"role": "assistant", "content": say(client, messages, extra_body=stateless).content})
    messages.append(user(QUESTION))
    answer = say(client, messages, extra_body=stateless).content
    assert word not in answer
    assert "no longer" in answer


def test_a_name_of_turn_one_is_recalled_in_turn_nine(client: openai.OpenAI) -> None:
    session = {"ark_stateful": str(uuid.uuid4())}
    between = [
        "My favourite colour is green.",
        "Say hello.",
        "Who are you?",
        "Count to 3.",
        "What can you do?",
        "Tell me a story about a fox.",
        "Thank you!",
    ]
    say(client, [user("Hello! My name is Marlo.")], extra_body=session)
    for content in between:
        say(client, [user(content)], extra_body=session)
    assert "Marlo" in say(client, [user("What is my name?")], extra_body=session).content


def secret_word(message: Any) -> str:
    """The word that the model keeps in its reasoning."""
    found = re.search(r"word is (\w+)", message.reasoning_content)
    assert found is not None, message.reasoning_content
    return found[1]
