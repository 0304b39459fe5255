"""Other people's clients from npm against ARK: `make test-clients` installs them.

Each is asked for the same things, by its own means. None of them keeps cookies.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from client_programs import run
from running import Running

pytestmark = pytest.mark.npm

PROGRAM = Path(__file__).parent / "npm" / "main.mjs"
CLIENTS = ("openai", "ai_sdk:openai", "ai_sdk:responses", "ai_sdk:compatible", "langchain")


class Client:
    """A client by its name."""

    def __init__(self, name: str, server: Running) -> None:
        self._name = name
        self._server = server

    def do(self, scenario: str) -> Any:
        return run(self._server, ["node", PROGRAM, self._name, scenario])


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, server: Running) -> Client:
    return Client(request.param, server)


def test_a_second_turn_remembers_the_first(client: Client) -> None:
    found = client.do("chat")
    assert "Ada" in found["text"]
    assert found["finish"] == "stop"
    read, written, both = found["usage"]
    assert read > written > 0
    assert both == read + written


def test_what_the_model_thought_and_never_said_is_remembered(client: Client, server: Running) -> None:
    first, _, third = client.do("secret")
    word = thought(server)
    assert word not in first
    assert word in third


def thought(server: Running) -> str:
    """The word that the model kept for itself in the latest session."""
    services = server.app.services
    assert services is not None
    (conversation,) = list(services.sessions.store._by_age)[-1].conversations.values()
    found = re.search(r"word is (\w+)", conversation.transcript.messages[1].data["reasoning_content"])
    assert found is not None
    return found[1]


def test_a_stream_says_what_a_whole_reply_says(client: Client) -> None:
    found = client.do("stream")
    assert len(found["pieces"]) > 3
    assert "".join(found["pieces"]) == found["whole"]
    whole, streamed = found["tokens"]
    assert streamed == whole > 0


def test_a_stream_that_is_left_ends_its_job(client: Client, server: Running) -> None:
    before = server.status().jobs_cancelled
    assert client.do("leave") == {"left": True}
    assert server.settle().jobs_cancelled == before + 1


def test_a_tool_is_called_and_its_result_is_read(client: Client) -> None:
    found = client.do("tools")
    assert found["call"] == found["streamed"] == {"name": "get_weather", "input": {"city": "Paris"}}
    assert "21" in found["answer"]


def test_a_reply_follows_a_schema(client: Client) -> None:
    found = client.do("schema")
    assert list(found) == ["unit"]
    assert found["unit"] in ("celsius", "fahrenheit")


def test_embeddings_tell_what_is_near(client: Client) -> None:
    found = client.do("embeddings")
    assert found["size"] == 384
    assert found["near"] > found["far"] + 0.2


def test_a_refusal_is_an_error_that_says_why(client: Client) -> None:
    found = client.do("errors")
    assert {name: error["status"] for name, error in found.items()} == {
        "value": 400,
        "stream": 400,
        "model": 404,
        "key": 401,
    }
    assert "temperature" in found["value"]["message"]
    assert "temperature" in found["stream"]["message"]
    assert "no-such-model" in found["model"]["message"]


def test_openais_client_names_errors_and_models(server: Running) -> None:
    openai = Client("openai", server)
    kinds = {name: error["kind"] for name, error in openai.do("errors").items()}
    assert kinds == {
        "value": "BadRequestError",
        "stream": "BadRequestError",
        "model": "NotFoundError",
        "key": "AuthenticationError",
    }
    assert {"gpt-4o", "text-embedding-3-small", "whisper-1"} <= set(openai.do("models"))
