"""HTTP/2 with prior knowledge, as a proxy speaks to the server behind it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from asgi_client import ECHO, make_config
from running import Running, serve

from ark.app import create_app

pytest.importorskip("h2", reason="httpx speaks HTTP/2 with h2")

SLOW = ECHO | {"name": "slow", "engine": {"tokens_per_second": 50}}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    limits = {"body_bytes": 50_000, "body_timeout": 0.5}
    with serve(create_app(make_config(models=[ECHO, SLOW], limits=limits))) as running:
        yield running


@pytest.fixture
def client(server: Running) -> Iterator[httpx.Client]:
    with httpx.Client(http1=False, http2=True, base_url=f"{server.url}/v1", timeout=120) as client:
        yield client


def body(content: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": content}], **fields}


def test_replies_of_one_connection(client: httpx.Client) -> None:
    for path, status in [("/models", 200), ("/models/nothing", 404), ("/nothing", 404), ("/health", 200)]:
        reply = client.get(path)
        assert (reply.status_code, reply.http_version) == (status, "HTTP/2")
        assert reply.headers["x-request-id"]
    assert client.head("/models").content == b""
    assert client.put("/models").headers["allow"] == "GET, HEAD"


def test_chat(client: httpx.Client) -> None:
    assert client.post("/chat/completions", json=body()).json()["choices"][0]["message"]["content"] == "hello"
    with client.stream("POST", "/chat/completions", json=body(stream=True)) as stream:
        assert list(stream.iter_lines())[-2:] == ["data: [DONE]", ""]


@pytest.mark.parametrize("size", [50_001, 1_000_000])
def test_a_refused_body(client: httpx.Client, size: int) -> None:
    for _ in range(2):
        reply = client.post("/chat/completions", content=b"x" * size, headers={"content-type": "application/json"})
        assert reply.status_code == 413
        assert reply.json()["error"]["code"] == "request_too_large"
    assert client.post("/nothing", json=body()).status_code == 404
    assert client.post("/chat/completions", json=body(temperature=5)).status_code == 400


def test_a_client_that_closes_its_connection_cancels_its_job(server: Running) -> None:
    before = server.status(1).jobs_cancelled
    with httpx.Client(http1=False, http2=True, timeout=120) as client:
        slow = body("hello " * 200, model="slow", stream=True)
        with client.stream("POST", f"{server.url}/v1/chat/completions", json=slow) as stream:
            next(stream.iter_lines())
    assert server.settle(20, model=1).jobs_cancelled == before + 1


def test_a_reset_stream_cancels_its_job_and_leaves_the_connection(server: Running) -> None:
    """httpx does not reset a stream that it gives up, so this is done by hand."""
    import h2.connection
    import h2.events

    before = server.status(1).jobs_cancelled
    link = h2.connection.H2Connection()
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:

        def send(stream: int, method: str, path: str, content: bytes = b"") -> None:
            head = {":method": method, ":path": path, ":scheme": "http", ":authority": "localhost"}
            head["content-type"] = "application/json"
            link.send_headers(stream, list(head.items()), end_stream=not content)
            if content:
                link.send_data(stream, content, end_stream=True)
            connection.sendall(link.data_to_send())

        def until(kind: type[h2.events.Event], stream: int) -> None:
            while True:
                for event in link.receive_data(connection.recv(65536)):
                    if isinstance(event, kind) and getattr(event, "stream_id", None) == stream:
                        return
                connection.sendall(link.data_to_send())

        link.initiate_connection()
        slow = body("hello " * 200, model="slow", stream=True)
        send(1, "POST", "/v1/chat/completions", json.dumps(slow).encode())
        until(h2.events.DataReceived, 1)
        link.reset_stream(1)
        connection.sendall(link.data_to_send())
        assert server.settle(20, model=1).jobs_cancelled == before + 1
        send(3, "GET", "/health")
        until(h2.events.StreamEnded, 3)
