"""HTTP/1.1 byte by byte on a socket, for what no client library would send."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def connected(port: int, *, timeout: float = 30.0) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        yield connection


def reset_when_closed(connection: socket.socket) -> None:
    """Make the connection end with a reset, as when the client is killed."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def head(method: str, path: str, *headers: str) -> bytes:
    """A request's head; the body of a POST is JSON unless the headers say otherwise."""
    if method == "POST" and not any(header.startswith("content-type:") for header in headers):
        headers = ("content-type: application/json", *headers)
    return "\r\n".join([f"{method} {path} HTTP/1.1", "host: localhost", *headers, "", ""]).encode()


def post(body: Any, *headers: str, path: str = "/v1/chat/completions") -> bytes:
    data = json.dumps(body).encode()
    return head("POST", path, f"content-length: {len(data)}", *headers) + data


def read_until(connection: socket.socket, what: bytes, count: int = 1, seen: bytes = b"") -> bytes:
    """Read until `what` has arrived `count` times, and return everything read."""
    while seen.count(what) < count:
        piece = connection.recv(65536)
        assert piece, f"the server closed the connection after {seen[-2000:]!r}"
        seen += piece
    return seen


def read_to_the_end(connection: socket.socket) -> bytes:
    """Everything until the server closes the connection."""
    seen = b""
    while piece := connection.recv(65536):
        seen += piece
    return seen


def read_reply(connection: socket.socket, seen: bytes = b"") -> tuple[int, bytes, bytes]:
    """Status and body of a reply with a declared length, and what came after it."""
    seen = read_until(connection, b"\r\n\r\n", seen=seen)
    raw, _, body = seen.partition(b"\r\n\r\n")
    first, *lines = raw.decode().lower().split("\r\n")
    length = int(dict(line.split(": ", 1) for line in lines)["content-length"])
    while len(body) < length:
        piece = connection.recv(65536)
        assert piece, f"the server closed the connection after {body!r}"
        body += piece
    return int(first.split()[1]), body[:length], body[length:]
