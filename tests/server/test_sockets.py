"""Byte for byte over a socket: uploads that are refused, slow and pipelined requests, connections that are kept."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from asgi_client import ECHO, make_config
from running import Running, serve

from ark.app import create_app

SLOW = ECHO | {"name": "slow", "engine": {"tokens_per_second": 50}}
LONG_PREFILL = ECHO | {"name": "prefill", "engine": {"prefill_seconds": 30.0}}
LIMIT = 100_000


def started(**tables: Any) -> Any:
    config = make_config(
        models=[ECHO, SLOW, LONG_PREFILL],
        limits={"body_bytes": LIMIT, "body_timeout": 0.3},
        server={"keep_alive": 0.1},
        **tables,
    )
    return serve(create_app(config))


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with started() as running:
        yield running


@pytest.fixture(scope="module")
def locked() -> Iterator[Running]:
    with started(keys=[{"name": "one", "sha256": hashlib.sha256(b"right").hexdigest()}]) as running:
        yield running


JSON = {"content-type": "application/json"}


@contextmanager
def connected(server: Running) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        yield connection


def head(method: str, path: str, *headers: str) -> bytes:
    if method == "POST" and not any(header.startswith("content-type:") for header in headers):
        headers = ("content-type: application/json", *headers)
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: localhost", *headers, "", ""]).encode()


def post(body: bytes, *headers: str) -> bytes:
    return head("POST", "/v1/chat/completions", f"content-length: {len(body)}", *headers) + body


def chat(content: str = "hello", **fields: Any) -> bytes:
    return json.dumps({"model": "echo", "messages": [{"role": "user", "content": content}], **fields}).encode()


def read_reply(connection: socket.socket, kept: bytes = b"") -> tuple[int, dict[str, str], bytes, bytes]:
    """Status, headers and body of a reply with a declared length, and what came behind it."""
    data = kept
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        assert piece, f"closed before a whole head: {data!r}"
        data += piece
    raw, _, data = data.partition(b"\r\n\r\n")
    first, *lines = raw.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    length = int(headers["content-length"])
    while len(data) < length:
        piece = connection.recv(65536)
        assert piece, f"closed before a whole body: {data!r}"
        data += piece
    return int(first.split()[1]), headers, data[:length], data[length:]


def is_closed(connection: socket.socket) -> bool:
    """Whether the server closes the connection, in order and not with a reset."""
    connection.settimeout(5)
    return connection.recv(1) == b""


def send_all(connection: socket.socket, size: int) -> None:
    """Send a whole body before anything is read, as many clients do."""
    piece = b"x" * 65536
    for _ in range(size // len(piece)):
        connection.sendall(piece)


@pytest.mark.parametrize("size", [200_000, 30_000_000])
def test_a_client_that_sends_all_of_a_large_body_first_gets_its_413(server: Running, size: int) -> None:
    size -= size % 65536
    with connected(server) as connection:
        connection.sendall(head("POST", "/v1/chat/completions", f"content-length: {size}"))
        send_all(connection, size)
        status, headers, body, _ = read_reply(connection)
        assert status == 413
        assert json.loads(body)["error"]["code"] == "request_too_large"
        assert headers["connection"] == "close"
        assert is_closed(connection)


def test_the_413_comes_before_the_body_has_been_sent(server: Running) -> None:
    with connected(server) as connection:
        connection.sendall(head("POST", "/v1/chat/completions", "content-length: 1000000"))
        assert read_reply(connection)[0] == 413


def chunked(pieces: Iterable[bytes]) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def test_a_chunked_body(server: Running) -> None:
    body = chat("hello")
    with connected(server) as connection:
        connection.sendall(head("POST", "/v1/chat/completions", "transfer-encoding: chunked"))
        connection.sendall(chunked(body[i : i + 3] for i in range(0, len(body), 3)))
        status, _, reply, _ = read_reply(connection)
    assert status == 200
    assert json.loads(reply)["choices"][0]["message"]["content"] == "hello"


def test_a_chunked_body_over_the_limit(server: Running) -> None:
    with connected(server) as connection:
        connection.sendall(head("POST", "/v1/chat/completions", "transfer-encoding: chunked"))
        connection.sendall(chunked([b"x" * 10_000] * 50))
        assert read_reply(connection)[0] == 413
        assert is_closed(connection)


@pytest.mark.parametrize("key", [None, "wrong"])
def test_httpx_gets_an_early_401_though_it_sends_all(locked: Running, key: str | None) -> None:
    headers = {"content-type": "application/json"} | ({} if key is None else {"authorization": f"Bearer {key}"})
    for size in (10, 50_000, 20_000_000):
        with httpx.Client() as client:
            reply = client.post(f"{locked.url}/v1/chat/completions", content=b"x" * size, headers=headers)
        assert reply.status_code == 401
        assert reply.json()["error"]["code"] == "invalid_api_key"


def test_httpx_gets_an_early_413(server: Running) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(300):
            yield b"x" * 65536

    for content in (b"x" * 20_000_000, pieces()):
        with httpx.Client() as client:
            reply = client.post(f"{server.url}/v1/chat/completions", content=content, headers=JSON)
        assert reply.status_code == 413


def test_expect_continue(server: Running) -> None:
    with connected(server) as connection:
        connection.sendall(head("POST", "/v1/chat/completions", "content-length: 1000000", "expect: 100-continue"))
        data = connection.recv(65536)
        while b"413" not in data:
            piece = connection.recv(65536)
            assert piece, data
            data += piece
    assert b"HTTP/1.1 413" in data


@pytest.mark.parametrize("trickle", [b"", b'{"model"'])
def test_a_slow_body_is_408(server: Running, trickle: bytes) -> None:
    with connected(server) as connection:
        connection.sendall(head("POST", "/v1/chat/completions", "content-length: 100") + trickle)
        begun = time.monotonic()
        status, headers, body, _ = read_reply(connection)
        assert 0.2 < time.monotonic() - begun < 60
        assert status == 408
        assert headers["connection"] == "close"
        assert json.loads(body)["error"]["code"] == "request_timeout"
        assert is_closed(connection)


def test_pipelined_requests_are_answered_in_order(server: Running) -> None:
    with connected(server) as connection:
        connection.sendall(b"".join(post(chat(f"number {number}")) for number in range(5)))
        rest = b""
        for number in range(5):
            status, _, body, rest = read_reply(connection, rest)
            assert status == 200
            assert json.loads(body)["choices"][0]["message"]["content"] == f"number {number}"
    assert rest == b""


def test_a_connection_lives_through_errors(server: Running) -> None:
    requests = [
        (404, head("GET", "/nothing")),
        (405, post(b"{}").replace(b"POST /v1/chat/completions", b"PUT /v1/chat/completions")),
        (415, post(chat(), "content-type: text/plain")),
        (400, post(b"{")),
        (404, post(chat(model="nothing"))),
        (200, post(chat())),
        (200, head("GET", "/health")),
    ]
    with connected(server) as connection:
        for expected, request in requests * 3:
            connection.sendall(request)
            status, headers, _, rest = read_reply(connection)
            assert status == expected
            assert "connection" not in headers
            assert rest == b""


def test_head_has_no_body(server: Running) -> None:
    with connected(server) as connection:
        connection.sendall(head("HEAD", "/v1/models") + head("HEAD", "/nothing") + head("GET", "/health"))
        data = b""
        while not data.endswith(b'{"status":"ok"}'):
            piece = connection.recv(65536)
            assert piece
            data += piece
    assert data.count(b"HTTP/1.1 ") == 3
    assert data.count(b"{") == 1


def cancelled(server: Running, model: int) -> int:
    return server.status(model).jobs_cancelled


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("name", "model"), [("slow", 1), ("prefill", 2)])
def test_a_client_that_leaves_cancels_its_job(
    server: Running, name: str, model: int, stream: bool, reset: bool
) -> None:
    before = cancelled(server, model)
    with connected(server) as connection:
        connection.sendall(post(chat("hello " * 200, model=name, stream=stream)))
        if stream:
            connection.recv(100)
        else:
            time.sleep(0.1)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert server.settle(20, model=model).jobs_cancelled == before + 1


def test_a_client_that_leaves_with_another_request_behind(server: Running) -> None:
    """The pipelined request keeps the server from reading on, so only the writes tell it that nobody is there."""
    before = cancelled(server, 1)
    with connected(server) as connection:
        connection.sendall(post(chat("hello " * 200, model="slow", stream=True)) + head("GET", "/health"))
        connection.recv(100)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert server.settle(10, model=1).jobs_cancelled == before + 1


def test_comments_keep_a_long_prefill_alive(server: Running) -> None:
    with connected(server) as connection:
        connection.sendall(post(chat(model="prefill", stream=True)))
        data = b""
        while data.count(b": keep-alive\n\n") < 3:
            piece = connection.recv(65536)
            assert piece
            data += piece
    server.settle(20, model=2)


def test_what_is_not_http_is_refused(server: Running) -> None:
    with connected(server) as connection:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")
    with httpx.Client() as client:
        assert client.get(f"{server.url}/health").status_code == 200
