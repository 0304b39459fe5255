"""The WebSocket of /responses, on a real server."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from process import ECHO_TOML
from response_referees import check_event
from serving import Server, serving
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from ark.http.websocket import MAX_WAITING, MAX_WAITING_BYTES


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = ECHO_TOML + "\n[models.engine]\ntokens_per_second = 300\n"
    with serving(tmp_path_factory.mktemp("socket"), config) as made:
        yield made


def opened(server: Server, path: str = "/v1/responses", **more: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}{path}", compression=None, **more)


def ask(socket: ClientConnection, text: str, **fields: Any) -> None:
    socket.send(json.dumps({"type": "response.create", "model": "echo", "input": text, **fields}))


def events(socket: ClientConnection) -> list[dict[str, Any]]:
    """Of one response."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["type"] not in (
        *("response.completed", "response.incomplete", "response.failed", "response.cancelled", "error"),
    ):
        found.append(json.loads(socket.recv(timeout=120)))
    return found


def test_responses_one_after_another(server: Server) -> None:
    """Also when they are asked for at once; what is not stored is continued on its connection."""
    with opened(server) as socket:
        for text in ("one", "two"):
            ask(socket, text, store=False)
        first, second = events(socket), events(socket)
        for found, text in ((first, "one"), (second, "two")):
            for event in found:
                check_event(event)
            assert [event["sequence_number"] for event in found] == [*range(len(found))]
            assert found[-1]["response"]["output"][0]["content"][0]["text"] == text
        number = second[-1]["response"]["id"]
        ask(socket, "three", previous_response_id=number, store=False)
        third = events(socket)[-1]["response"]
        used = second[-1]["response"]["usage"]["total_tokens"]
        assert third["usage"]["input_tokens"] == used + len("user: three\nassistant: ")
        ask(socket, "x", previous_response_id=number)
        assert events(socket)[-1]["error"]["code"] == "previous_response_not_found"
    with opened(server, "/responses") as socket:
        ask(socket, "x", previous_response_id=third["id"])
        (error,) = events(socket)
    assert (error["type"], error["status"]) == ("error", 404)
    server.until(lambda: server.metric("response_bytes") == 0)


def test_a_response_can_be_cancelled(server: Server) -> None:
    with opened(server) as socket:
        ask(socket, "x" * 3000)
        for _ in range(6):
            socket.recv(timeout=120)
        socket.send('{"type": "response.cancel"}')
        assert events(socket)[-1]["type"] == "response.cancelled"
        ask(socket, "next")
        assert events(socket)[-1]["response"]["output"][0]["content"][0]["text"] == "next"


@pytest.mark.parametrize("message", ["", "x", "[]", '{"type": "other"}', b"\xff", '{"type": 5}'])
def test_what_is_no_request_is_an_error_and_ends_nothing(server: Server, message: Any) -> None:
    with opened(server) as socket:
        socket.send(message)
        assert events(socket)[-1]["error"]["param"] == "type"
        ask(socket, "x", temperature=9)
        refused = events(socket)[-1]
        assert (refused["status"], refused["error"]["param"]) == (400, "temperature")
        ask(socket, "x")
        assert events(socket)[-1]["type"] == "response.completed"


def test_a_client_that_leaves_ends_its_job(server: Server) -> None:
    server.until(lambda: server.metric("num_requests_running") == 0)
    before = server.metric("engine_jobs", outcome="cancelled")
    with opened(server) as socket:
        ask(socket, "x" * 3000)
        socket.recv(timeout=120)
    server.until(lambda: server.metric("engine_jobs", outcome="cancelled") == before + 1)


@pytest.mark.parametrize(("size", "taken"), [(10, MAX_WAITING), (MAX_WAITING_BYTES // 3, 2), (MAX_WAITING_BYTES, 1)])
def test_so_much_waits_on_one_connection(server: Server, size: int, taken: int) -> None:
    """A client that sends on and on while a response is made is told so; what waits already is answered."""
    with opened(server) as socket:
        ask(socket, "first " * 30)
        socket.recv(timeout=120)
        for _ in range(taken + 2):
            ask(socket, "x", padding="y" * size)
        ends = [events(socket)[-1] for _ in range(taken + 3)]
    refused = [end["error"]["message"] for end in ends if end["type"] == "error"]
    assert len(refused) == 2
    assert all("wait on this connection" in message for message in refused)
    assert [end["type"] for end in ends].count("response.completed") == 1 + taken


@pytest.mark.parametrize("path", ["/", "/v1/chat/completions", "/responses/x"])
def test_there_is_no_other_one(server: Server, path: str) -> None:
    with pytest.raises(InvalidStatus):
        opened(server, path)


def test_a_page_of_another_origin_is_refused(server: Server) -> None:
    with pytest.raises(InvalidStatus) as refused:
        opened(server, origin="http://evil.example")
    assert refused.value.response.status_code == 403


def test_keys_are_asked_for(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"sk-own").hexdigest()
    config = ECHO_TOML + f'\n[[keys]]\nname = "own"\nsha256 = "{digest}"\n'
    with serving(tmp_path, config) as server:
        for headers in ({}, {"authorization": "Bearer other"}):
            with pytest.raises(InvalidStatus) as refused:
                opened(server, additional_headers=headers)
            assert refused.value.response.status_code == 401
            assert b"invalid_api_key" in refused.value.response.body
        with opened(server, additional_headers={"authorization": "Bearer sk-own"}) as socket:
            ask(socket, "hello")
            assert events(socket)[-1]["type"] == "response.completed"
            server.process.terminate()
            with pytest.raises(ConnectionClosed):
                socket.recv(timeout=120)
