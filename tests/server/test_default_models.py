"""The server without any configuration: the default models, side by side."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import openai
import pytest

pytest.importorskip("torch")
pytest.importorskip("tiktoken")

from running import Running, serve

from ark.app import create_app
from ark.config import Config
from ark.models.default_models import default_models


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    # Their engines import much.
    with serve(create_app(Config()), 300) as running:
        yield running


HELLO: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "Hello!"}]


def test_both_answer_to_openais_names(server: Running) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        chat = client.chat.completions.create(model="gpt-4o", messages=HELLO, max_tokens=16)
        vectors = client.embeddings.create(model="text-embedding-ada-002", input=["Hello!", "Good morning!"])
        listed = {model.id for model in client.models.list()}
    assert chat.choices[0].message.content
    assert [len(one.embedding) for one in vectors.data] == [384, 384]
    assert {"gpt-3.5-turbo", "gpt-4o", "text-embedding-3-small", "text-embedding-3-large"} <= listed


def test_ready_tells_of_all(server: Running) -> None:
    reply = httpx.get(f"{server.url}/ready", timeout=60)
    assert reply.status_code == 200
    assert reply.json()["models"] == {model.name: "ready" for model in default_models()}
    assert len(reply.json()["models"]) == 3
