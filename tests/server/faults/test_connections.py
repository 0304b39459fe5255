"""Connections that are slow, half closed, idle, too many, or carry no HTTP: the others are served meanwhile."""

from __future__ import annotations

import json
import resource
import socket
import struct
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psutil
import pytest
from serving import Server
from wire import connected, head, post, read_reply, read_to_the_end, read_until


def chat(content: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": content}]} | fields


def is_served(server: Server) -> bool:
    with connected(server.port) as connection:
        connection.sendall(post(chat()))
        status, body, _ = read_reply(connection)
    content: str = json.loads(body)["choices"][0]["message"]["content"]
    return (status, content) == (200, "hello")


FULL = "new connections wait"
"""What the server says when it may open no more files."""


def complaints(server: Server) -> list[dict[str, Any]]:
    return [line for line in server.complaints() if FULL not in line["message"]]


@pytest.fixture(autouse=True)
def undisturbed(echo: Server) -> Iterator[None]:
    before = complaints(echo)
    yield
    echo.until(lambda: echo.metric("requests_in_hand") == 0)
    assert is_served(echo)
    assert complaints(echo) == before
    assert "Traceback" not in echo.process.log


class TestSlow:
    def test_a_body_that_comes_a_byte_at_a_time_is_408(self, echo: Server) -> None:
        """No pause is too long, the whole of it is."""
        request = post(chat("x" * 1000))
        with connected(echo.port, timeout=0.1) as connection:
            connection.sendall(request[:-1000])
            seen = b""
            for number in range(1000):
                try:
                    connection.sendall(request[number - 1000 : number - 999])
                    seen = connection.recv(65536)
                    break
                except TimeoutError:
                    continue
            connection.settimeout(30)
            status, body, _ = read_reply(connection, seen)
            assert (status, json.loads(body)["error"]["code"]) == (408, "request_timeout")
            assert b"\r\nconnection: close\r\n" in seen.lower()
            assert read_to_the_end(connection) == b""

    def test_a_chunked_body_that_stops_is_408(self, echo: Server) -> None:
        with connected(echo.port) as connection:
            connection.sendall(head("POST", "/v1/chat/completions", "transfer-encoding: chunked") + b'5\r\n{"mod')
            assert read_reply(connection)[0] == 408

    def test_many_slow_heads_and_bodies_keep_nobody_waiting(self, echo: Server) -> None:
        beginnings = [b"P", head("POST", "/v1/chat/completions")[:-2], post(chat("x" * 1000))[:-900]]
        with ExitStack() as opened:
            for number in range(300):
                connection = opened.enter_context(connected(echo.port))
                connection.sendall(beginnings[number % 3])
            assert is_served(echo)


class TestHalfClosed:
    """A client that closes its half has left, as for nginx: what it asked for is cancelled, and no reply is made."""

    @pytest.mark.parametrize("stream", [False, True])
    def test_it_has_left(self, echo: Server, stream: bool) -> None:
        name = str(uuid.uuid4())
        with connected(echo.port) as connection:
            body = chat("hello " * 500, model="slow", stream=stream)
            connection.sendall(post(body, f"x-request-id: {name}"))
            echo.until(lambda: echo.metric("num_requests_running", model_name="slow") == 1)
            connection.shutdown(socket.SHUT_WR)
            rest = read_to_the_end(connection)
        assert b"[DONE]" not in rest
        echo.until(lambda: echo.has_left(name))
        assert echo.metric("num_requests_running", model_name="slow") == 0

    def test_in_its_body(self, echo: Server) -> None:
        name = str(uuid.uuid4())
        with connected(echo.port) as connection:
            connection.sendall(post(chat("x" * 1000), f"x-request-id: {name}")[:-500])
            connection.shutdown(socket.SHUT_WR)
            assert b"200" not in read_to_the_end(connection)
        echo.until(lambda: echo.has_left(name))

    def test_the_other_half(self, echo: Server) -> None:
        """A client that will not read any more: its reply ends with the first write that is refused."""
        with connected(echo.port) as connection:
            connection.sendall(post(chat("hello " * 500, model="slow", stream=True)))
            read_until(connection, b"data: ")
            connection.shutdown(socket.SHUT_RD)
            connection.close()
        echo.until(lambda: echo.metric("num_requests_running", model_name="slow") == 0)


GARBAGE = {
    "bytes": b"\x00\xff\x16\x03\x01\r\n\r\n",
    "words": b"this is no request\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "a bad header": b"GET /health HTTP/1.1\r\nhost: ark\r\nbad header\r\n\r\n",
    "a bad length": b"POST /v1/chat/completions HTTP/1.1\r\nhost: ark\r\ncontent-length: -5\r\n\r\n",
    "two lengths": b"POST /v1/embeddings HTTP/1.1\r\nhost: ark\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
}


class TestGarbage:
    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_alone(self, echo: Server, garbage: str) -> None:
        with connected(echo.port) as connection:
            connection.sendall(GARBAGE[garbage])
            reply = read_to_the_end(connection)
        assert reply == b"" or reply.startswith(b"HTTP/1.1 400"), reply

    @pytest.mark.parametrize("garbage", GARBAGE)
    def test_behind_a_request(self, echo: Server, garbage: str) -> None:
        """The request is answered, and then the connection ends."""
        with connected(echo.port) as connection:
            connection.sendall(post(chat()) + GARBAGE[garbage])
            status, body, rest = read_reply(connection)
            assert status == 200
            assert json.loads(body)["choices"][0]["message"]["content"] == "hello"
            rest += read_to_the_end(connection)
        assert rest == b"" or rest.startswith(b"HTTP/1.1 400"), rest

    def test_behind_a_stream(self, echo: Server) -> None:
        with connected(echo.port) as connection:
            connection.sendall(post(chat("hello " * 3, model="slow", stream=True)))
            seen = read_until(connection, b"data: ")
            connection.sendall(GARBAGE["bytes"] * 1000)
            seen = read_until(connection, b"[DONE]", seen=seen)
            read_to_the_end(connection)

    @pytest.mark.parametrize("garbage", [b"zz\r\nhello\r\n", b"-5\r\n", b"5\r\nhello!!\r\n", b"f" * 30 + b"\r\n"])
    def test_in_a_chunked_body(self, echo: Server, garbage: bytes) -> None:
        with connected(echo.port) as connection:
            connection.sendall(head("POST", "/v1/chat/completions", "transfer-encoding: chunked") + garbage)
            reply = read_to_the_end(connection)
        # Hypercorn says so by itself, or closes; or the chunks end too early, which is a body that does not come.
        assert reply == b"" or reply.startswith((b"HTTP/1.1 400", b"HTTP/1.1 408")), reply


@contextmanager
def idle(server: Server, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as opened:
        yield [opened.enter_context(connected(server.port)) for _ in range(count)]


class TestMany:
    def test_a_thousand_idle_connections(self, echo: Server) -> None:
        """A request is served whole while they are there, and they are closed in their time."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < 4096:
            pytest.skip("this many sockets cannot be opened here")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096) if soft != resource.RLIM_INFINITY else soft, hard))
        process = psutil.Process(echo.pid)
        echo.until(lambda: process.num_fds() < 40)
        memory = process.memory_info().rss
        with idle(echo, 1000) as connections:
            echo.until(lambda: process.num_fds() >= 1000)
            with connected(echo.port) as connection:
                connection.sendall(post(chat("hello " * 5, model="slow", stream=True), "connection: close"))
                assert read_to_the_end(connection).count(b'"content":"h"') == 5
            assert process.memory_info().rss - memory < 64 * 2**20
            for connection in connections:
                assert connection.recv(1) == b""
        echo.until(lambda: process.num_fds() < 40)

    @pytest.mark.parametrize("reset", [False, True])
    def test_those_that_clients_close_are_closed_at_once(self, echo: Server, reset: bool) -> None:
        """And not as late as those that may still be used."""
        process = psutil.Process(echo.pid)
        echo.until(lambda: process.num_fds() < 40)
        with idle(echo, 60) as connections:
            for connection in connections[:20]:
                connection.sendall(post(chat()))
                assert read_reply(connection)[0] == 200
            for connection in connections[20:40]:
                connection.sendall(head("GET", "/health")[:-10])
            echo.until(lambda: process.num_fds() >= 60)
            if reset:
                for connection in connections:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Below the 6 s of `header_timeout`, for which an open one would be kept.
        echo.until(lambda: process.num_fds() < 40, seconds=3)

    def test_more_connections_than_files(self, echo: Server) -> None:
        """No more can be accepted, which is said once; those that are there are served, and all others once there is
        room."""
        process = psutil.Process(echo.pid)
        echo.until(lambda: process.num_fds() < 40)
        limits = resource.prlimit(echo.pid, resource.RLIMIT_NOFILE)
        with connected(echo.port) as kept:
            kept.sendall(head("GET", "/health"))
            assert read_reply(kept)[0] == 200
            resource.prlimit(echo.pid, resource.RLIMIT_NOFILE, (process.num_fds() + 20, limits[1]))
            try:
                with idle(echo, 50):
                    echo.until(lambda: FULL in echo.process.log)
                    # The event loop tries again each second.
                    time.sleep(2.5)
                    kept.sendall(post(chat()))
                    assert read_reply(kept)[0] == 200
            finally:
                resource.prlimit(echo.pid, resource.RLIMIT_NOFILE, limits)
        begun = time.monotonic()
        assert is_served(echo)
        assert time.monotonic() - begun < 30
        assert echo.process.log.count(FULL) == 1
