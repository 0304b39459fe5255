"""Heads of requests that come slowly, are too large, say two things, or never come: nobody needs a key to send one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from process import ECHO_TOML
from serving import Server, serving
from wire import connected, head, post, read_reply, read_to_the_end

HALF = head("POST", "/v1/chat/completions")[:-2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An echo of 20 characters a second."""
    config = f"[limits]\nheader_timeout = 1.0\n{ECHO_TOML}engine = {{ tokens_per_second = 20 }}\n"
    with serving(tmp_path_factory.mktemp("heads"), config) as started:
        before = started.complaints()
        yield started
        assert started.complaints() == before
        assert "Traceback" not in started.process.log


@pytest.mark.parametrize("behind_another", [False, True])
@pytest.mark.parametrize("begun", [b"P", HALF])
def test_one_that_does_not_come_is_408(server: Server, begun: bytes, behind_another: bool) -> None:
    with connected(server.port) as connection:
        if behind_another:
            connection.sendall(head("GET", "/health"))
            assert read_reply(connection)[0] == 200
        connection.sendall(begun)
        status, body, _ = read_reply(connection)
        assert (status, json.loads(body)["error"]["code"]) == (408, "request_timeout")
        assert read_to_the_end(connection) == b""


def test_one_that_trickles_is_408(server: Server) -> None:
    """`header_timeout` is the time for the whole of it, however many pieces it comes in."""
    seen = b""
    with connected(server.port, timeout=0.2) as connection:
        connection.sendall(HALF)
        for _ in range(300):
            try:
                connection.sendall(b"x: x\r\n")
                seen = connection.recv(65536)
                break
            except TimeoutError:
                continue
        assert read_reply(connection, seen)[0] == 408


@pytest.mark.parametrize("behind_another", [False, True])
def test_a_connection_that_is_idle_is_closed_without_a_word(server: Server, behind_another: bool) -> None:
    with connected(server.port) as connection:
        if behind_another:
            connection.sendall(head("GET", "/health"))
            assert read_reply(connection)[0] == 200
        assert read_to_the_end(connection) == b""


def test_the_time_of_an_idle_connection_begins_with_its_last_reply(server: Server) -> None:
    slow = {"model": "echo", "messages": [{"role": "user", "content": "hello" * 6}]}
    with connected(server.port) as connection:
        for request in [head("GET", "/health")] * 6 + [post(slow)] + [head("GET", "/health")] * 2:
            connection.sendall(request)
            assert read_reply(connection)[0] == 200
            time.sleep(0.25)
        assert read_to_the_end(connection) == b""


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
UPGRADE = ("connection: upgrade", "upgrade: websocket")


def test_what_begins_another_protocol_and_asks_nothing_is_closed(server: Server) -> None:
    beginnings = [
        PREFACE,
        PREFACE[:-4],
        PREFACE + SETTINGS,
        PREFACE + SETTINGS + b"\0\0\2\1\0\0\0\0\1\x82\x86",
        PREFACE + b"\xff" * 100,
        head("GET", "/health", *UPGRADE),
        head("GET", "/health", *UPGRADE, "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    with ExitStack() as opened:
        connections = [opened.enter_context(connected(server.port)) for _ in beginnings]
        for connection, beginning in zip(connections, beginnings, strict=True):
            connection.sendall(beginning)
        for connection in connections:
            read_to_the_end(connection)


def test_a_reply_that_takes_longer_comes_whole(server: Server) -> None:
    content = "hello" * 10
    body = {"model": "echo", "messages": [{"role": "user", "content": content}]}
    with connected(server.port) as connection:
        connection.sendall(post(body))
        status, reply, _ = read_reply(connection)
    assert (status, json.loads(reply)["choices"][0]["message"]["content"]) == (200, content)


KEY = ("sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")
H2C = ("connection: upgrade, http2-settings", "upgrade: h2c")


@pytest.mark.parametrize(
    "upgrade",
    [*((*H2C, f"http2-settings: {one}") for one in ("AAMAAABkAAQCAAAAAAIAAAAA", "AAMAAA", "!")), (*UPGRADE, *KEY)],
)
def test_a_request_does_not_become_another_protocol(server: Server, upgrade: tuple[str, ...]) -> None:
    """Behind a proxy it could then ask for what the proxy does not let through."""
    with connected(server.port) as connection:
        connection.sendall(head("GET", "/health", *upgrade))
        assert read_reply(connection)[:2] == (200, b'{"status":"ok"}')


@pytest.mark.parametrize("more", ["x: " + "x" * 17_000, "x: x\r\n" * 3000 + "y: y"])
def test_one_that_is_too_large_is_431_however_it_is_cut(server: Server, more: str) -> None:
    request = head("GET", "/health", more)
    for cut in (0, 100, len(request) - 1):
        with connected(server.port) as connection:
            connection.sendall(request[:cut])
            connection.sendall(request[cut:])
            assert b"HTTP/1.1 431 " in connection.recv(65536)


def test_one_that_is_not(server: Server) -> None:
    with connected(server.port) as connection:
        connection.sendall(head("GET", "/health", "x: " + "x" * 16_000))
        assert read_reply(connection)[0] == 200


def test_a_target_that_is_a_whole_url_is_served(server: Server) -> None:
    with connected(server.port) as connection:
        connection.sendall(head("GET", f"http://localhost:{server.port}/v1/models?x=http://y"))
        status, body, _ = read_reply(connection)
        assert (status, json.loads(body)["data"][0]["id"]) == (200, "echo")
        connection.sendall(head("GET", "http://evil.example/v1/models"))
        assert read_reply(connection)[0] == 403


@pytest.mark.parametrize("method", ["head", "Head", "get", "options"])
def test_a_method_in_small_letters_is_answered(server: Server, method: str) -> None:
    with connected(server.port) as connection:
        connection.sendall(head(method, "/health") + head("GET", "/health", "connection: close"))
        replies = read_to_the_end(connection)
    assert replies.count(b"HTTP/1.1 ") == 2
    assert replies.endswith(b'{"status":"ok"}')


@pytest.mark.parametrize("version", ["0.9", "2.0", "3.0", "9.9"])
def test_a_version_that_there_is_not_is_505(server: Server, version: str) -> None:
    request = head("GET", "/health").replace(b"HTTP/1.1", f"HTTP/{version}".encode())
    with connected(server.port) as connection:
        connection.sendall(request)
        status, body, _ = read_reply(connection)
    assert (status, json.loads(body)["error"]["code"]) == (505, "unsupported_http_version")


@pytest.mark.parametrize("length", ["4", "5", "0"])
def test_a_body_with_two_lengths_is_refused_and_what_follows_is_no_request(server: Server, length: str) -> None:
    both = head("POST", "/v1/chat/completions", f"content-length: {length}", "transfer-encoding: chunked")
    with connected(server.port) as connection:
        connection.sendall(both + b"0\r\n\r\n" + head("GET", "/health"))
        reply = read_to_the_end(connection)
    assert reply.startswith(b"HTTP/1.1 400 ")
    assert b"invalid_framing" in reply
    assert reply.count(b"HTTP/1.1") == 1
