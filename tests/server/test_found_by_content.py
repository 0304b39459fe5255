"""Conversations of clients that return no cookie: found by a name that they send, or by what they send anyway."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from running import Running, serve
from tiny_model import HERMES, TAGS, save_tiny_llama

from ark.app import create_app
from ark.config import Config, KeyConfig, ModelConfig, SessionsConfig

KEYS = ("alice", "bob")
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def make_config(path: str, **sessions: Any) -> Config:
    model = ModelConfig(name="tiny", path=path, engine={"dtype": "float32", "threads": 1, "kv_bytes": 200_000_000})
    keys = tuple(KeyConfig(name=name, sha256=hashlib.sha256(name.encode()).hexdigest()) for name in KEYS)
    return Config(models=(model,), keys=keys, sessions=SessionsConfig(**sessions))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tiny")
    save_tiny_llama(path, context_length=4096, template=HERMES, tags=TAGS)
    return str(path)


@pytest.fixture(scope="module")
def server(tiny: str) -> Iterator[Running]:
    with serve(create_app(make_config(tiny))) as running:
        yield running


class Client:
    """Keeps a history, and no cookie."""

    def __init__(self, server: Running, key: str = "alice", **fields: Any) -> None:
        self._url = f"{server.url}/v1/chat/completions"
        self._headers = {"authorization": f"Bearer {key}", **fields.pop("headers", {})}
        self.messages: list[dict[str, Any]] = []
        self.fields = fields

    def say(self, text: str, **fields: Any) -> httpx.Response:
        self.messages.append({"role": "user", "content": text})
        reply = self.ask(**fields)
        self.messages.append(reply.json()["choices"][0]["message"])
        return reply

    def ask(self, **fields: Any) -> httpx.Response:
        headers = self._headers | fields.pop("headers", {})
        body = {"model": "tiny", "messages": self.messages, "max_tokens": 12, "temperature": 0}
        reply = httpx.post(self._url, json={**body, **self.fields, **fields}, headers=headers, timeout=60)
        assert reply.status_code == 200, reply.text
        return reply


def state(reply: httpx.Response) -> list[str]:
    return reply.headers["x-ark-session"].split("; ")


def cached(reply: httpx.Response) -> int:
    count: int = reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    return count


def test_a_client_without_a_jar_continues_its_conversation(server: Running) -> None:
    client = Client(server)
    first = client.say("once upon a time " * 20)
    session = state(first)[0]
    assert state(first)[1:] == ["created"]
    before = first.json()["usage"]["total_tokens"]
    for _ in range(2):
        reply = client.say("Go on")
        assert state(reply) == [session, "continued", "content"]
        assert cached(reply) >= 0.99 * before
        before = reply.json()["usage"]["total_tokens"]


def test_another_key_that_sends_the_same_has_nothing_of_it(server: Running) -> None:
    client, other = Client(server), Client(server, "bob")
    client.say("a secret of alice")
    other.messages = [*client.messages]
    reply = other.say("What else?")
    assert state(reply)[1:] == ["created"]
    assert cached(reply) < 16
    assert state(client.say("What else?"))[1:] == ["continued", "content"]


@pytest.mark.parametrize(
    "name",
    [
        {"headers": {"x-session-id": "ses_1"}},
        {"headers": {"session-id": "ses_2"}},
        {"headers": {"session_id": "ses_3"}},
        {"headers": {"thread-id": "ses_4"}},
        {"headers": {"X-Session-Affinity": "ses_5"}},
        {"headers": {"X-Claude-Code-Session-Id": "ses_6"}},
        {"prompt_cache_key": "ses_7"},
        {"metadata": {"session_id": "ses_8"}},
    ],
)
def test_a_name_that_clients_send_anyway_finds_it(server: Running, name: dict[str, Any]) -> None:
    client = Client(server, **name)
    client.say("Hello there")
    client.fields = {**client.fields, "tools": TOOLS, "tool_choice": "none"}
    assert state(client.say("And then?"))[1:] == ["continued", "name"]


def test_how_conversations_were_found_is_in_the_metrics(tiny: str) -> None:
    with serve(create_app(make_config(tiny))) as server:
        client = Client(server)
        for _ in range(3):
            client.say("Hello")
        told = httpx.get(f"{server.url}/metrics", headers={"authorization": "Bearer bob"}).text
    assert 'ark:session_turns_total{found="content"} 2.0' in told
    assert 'ark:session_turns_total{found="new"} 1.0' in told


def test_a_history_that_the_client_has_summed_up_is_new_and_shares_the_beginning(server: Running) -> None:
    client = Client(server, tools=TOOLS, tool_choice="none")
    client.messages = [{"role": "system", "content": "Be of help with these files. " * 20}]
    client.say("Hello")
    client.say("More")
    client.messages[1:] = [{"role": "user", "content": "What was said so far: Hello, More."}]
    reply = client.ask()
    assert state(reply)[1:] == ["created"]
    assert cached(reply) > 500
