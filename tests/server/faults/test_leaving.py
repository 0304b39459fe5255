"""Clients that go away, at every stage of a request: nothing of them stays behind, and nobody else notices."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import faulty_torch
import httpx
import pytest
from serving import Server
from wire import connected, head, post, read_until, reset_when_closed

pytestmark = pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])


CHUNK = 64
"""Prompt tokens that the engine computes at once, as the fixture has it."""


@pytest.fixture
def server(torch: Server) -> Server:
    return torch


@pytest.fixture
def model(models: Mapping[str, Path]) -> Path:
    return models["tiny"]


@pytest.fixture(autouse=True)
def undisturbed(server: Server, model: Path) -> Iterator[None]:
    """Whatever a test did: at its end nothing runs, waits or holds a place, and the next request is answered."""
    before = server.complaints()
    yield
    faulty_torch.set_fault(model, None)
    server.until(lambda: not busy(server))
    assert server.ask(model="tiny", max_tokens=5).status_code == 200
    assert server.complaints() == before


def busy(server: Server) -> float:
    return sum(server.metric(name) for name in ("num_requests_running", "num_requests_waiting", "requests_in_hand"))


def chat(content: str = "Tell me everything.", **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": "tiny", "messages": messages, "max_tokens": 20, "temperature": 0} | fields


def leave(connection: socket.socket, reset: bool) -> None:
    if reset:
        reset_when_closed(connection)
    connection.close()


@pytest.mark.parametrize("sent", [1, 20, 60])
def test_in_the_head(server: Server, reset: bool, sent: int) -> None:
    before = server.metric("requests_in_hand")
    with connected(server.port) as connection:
        connection.sendall(post(chat())[:sent])
        leave(connection, reset)
    assert server.metric("requests_in_hand") == before == 0


def test_in_the_body(server: Server, reset: bool) -> None:
    """It has taken no place yet, and is counted as left."""
    name = str(uuid.uuid4())
    head, _, body = post(chat("x" * 5000), f"x-request-id: {name}").partition(b"\r\n\r\n")
    with connected(server.port) as connection:
        connection.sendall(head + b"\r\nexpect: 100-continue\r\n\r\n")
        # The application reads the body now.
        read_until(connection, b"100 ")
        connection.sendall(body[:-2000])
        assert server.metric("requests_in_hand") == 0
        leave(connection, reset)
    server.until(lambda: server.has_left(name))
    assert server.metric("requests_in_hand") == server.metric("num_requests_waiting") == 0


def test_in_the_queue(server: Server, model: Path, reset: bool) -> None:
    """Its prompt is never read, and who stands before it gets the same as ever."""
    expected = server.client.post("/v1/chat/completions", json=chat(ark_stateful=False)).json()
    name, computed = str(uuid.uuid4()), server.metric("prompt_tokens_computed")
    faulty_torch.set_fault(model, "hold")
    with connected(server.port) as first, connected(server.port) as second:
        first.sendall(post(chat(ark_stateful=False)))
        server.until(lambda: faulty_torch.is_held(model))
        second.sendall(post(chat("x" * 1000, stream=True), f"x-request-id: {name}"))
        server.until(lambda: server.metric("num_requests_waiting") == 1)
        leave(second, reset)
        server.until(lambda: server.has_left(name))
        faulty_torch.set_fault(model, None)
        seen = read_until(first, b'"usage"')
    assert expected["choices"][0]["message"]["content"].encode()[:5] in seen
    server.until(lambda: not busy(server))
    assert server.metric("prompt_tokens_computed") - computed <= expected["usage"]["prompt_tokens"]


def test_in_the_prefill(server: Server, model: Path, reset: bool) -> None:
    """Of a long prompt no more than the piece is computed that was under way."""
    name, computed = str(uuid.uuid4()), server.metric("prompt_tokens_computed")
    faulty_torch.set_fault(model, "hold")
    with connected(server.port) as connection:
        connection.sendall(post(chat(f"{uuid.uuid4()} " * 50, stream=True), f"x-request-id: {name}"))
        # The reply begins at the admission, before the prompt is computed.
        read_until(connection, b"data: ")
        server.until(lambda: faulty_torch.is_held(model))
        leave(connection, reset)
        server.until(lambda: server.has_left(name))
        faulty_torch.set_fault(model, None)
    server.until(lambda: not busy(server))
    assert server.metric("prompt_tokens_computed") - computed <= CHUNK


def test_in_mid_stream(server: Server, reset: bool) -> None:
    name, generated = str(uuid.uuid4()), server.metric("generation_tokens")
    with connected(server.port) as connection:
        connection.sendall(post(chat(stream=True, max_tokens=3500, ignore_eos=True), f"x-request-id: {name}"))
        read_until(connection, b"data: ", 10)
        leave(connection, reset)
    server.until(lambda: server.has_left(name))
    server.until(lambda: not busy(server))
    assert server.metric("generation_tokens") - generated < 3500


def test_in_a_turn_of_a_session(server: Server, model: Path, reset: bool) -> None:
    """The session is as before the turn, and the same request may be sent again."""
    session, other = str(uuid.uuid4()), str(uuid.uuid4())
    url = "/v1/chat/completions"
    texts = ("alpha", "beta", "gamma")
    expected = [server.client.post(url, json=chat(text, ark_stateful=other)).json()["choices"] for text in texts]
    assert server.client.post(url, json=chat(texts[0], ark_stateful=session)).json()["choices"] == expected[0]
    name = str(uuid.uuid4())
    with connected(server.port) as connection:
        faulty_torch.set_fault(model, "hold")
        connection.sendall(post(chat(texts[1], ark_stateful=session, stream=True), f"x-request-id: {name}"))
        read_until(connection, b"data: ")
        leave(connection, reset)
        server.until(lambda: server.has_left(name))
        faulty_torch.set_fault(model, None)
    server.until(lambda: server.client.get(f"/v1/sessions/{session}").json()["running"] == 0)
    assert server.client.get(f"/v1/sessions/{session}").json()["messages"] == 2
    for text, choices in zip(texts[1:], expected[1:], strict=True):
        assert server.client.post(url, json=chat(text, ark_stateful=session)).json()["choices"] == choices


def test_between_the_turns_of_a_session(server: Server, reset: bool) -> None:
    """Every turn comes on a connection of its own, which ends behind it: the session does not hang on any."""
    session, other = str(uuid.uuid4()), str(uuid.uuid4())
    for number in range(5):
        body = chat(f"turn {number}")
        expected = server.client.post("/v1/chat/completions", json=body | {"ark_stateful": other}).json()
        with connected(server.port) as connection:
            connection.sendall(post(body | {"ark_stateful": session}))
            reply = read_until(connection, b'"usage"')
            leave(connection, reset)
        content = expected["choices"][0]["message"]["content"]
        assert httpx.Response(200, content=b'"' + content_of(reply) + b'"').json() == content
    assert server.client.get(f"/v1/sessions/{session}").json()["messages"] == 10


def content_of(reply: bytes) -> bytes:
    """The text of a reply as it stands in its JSON."""
    return reply.partition(b'"content":"')[2].partition(b'","')[0]


def test_after_nothing_at_all(server: Server, reset: bool) -> None:
    with connected(server.port) as connection:
        leave(connection, reset)
    with connected(server.port) as connection:
        connection.sendall(head("GET", "/health"))
        read_until(connection, b'{"status":"ok"}')
        leave(connection, reset)
