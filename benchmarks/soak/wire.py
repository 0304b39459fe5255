"""HTTP byte by byte, for what no client library would send."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

SILENCE = 60.0
"""Seconds after which an answer counts as lost."""


class Wire:
    """An open connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def status(self) -> int | None:
        """Of the next reply; None when the connection ends without one."""
        try:
            line = await asyncio.wait_for(self.reader.readline(), SILENCE)
        except ConnectionError:
            return None
        return int(line.split()[1]) if line.startswith(b"HTTP/") else None

    async def rest(self) -> bytes:
        """Everything until the server closes the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(), SILENCE)
        except ConnectionError:
            return b""

    def reset_when_closed(self) -> None:
        """Make the connection end with a reset."""
        found: socket.socket = self.writer.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@asynccontextmanager
async def wire(http: httpx.AsyncClient) -> AsyncIterator[Wire]:
    """A connection of its own to the server that a client speaks to."""
    parts = urlsplit(str(http.base_url))
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def head(http: httpx.AsyncClient, method: str, path: str, *headers: str) -> bytes:
    if method == "POST" and not any(header.startswith("content-type:") for header in headers):
        headers = ("content-type: application/json", *headers)
    lines = [
        f"{method} {path} HTTP/1.1",
        "host: localhost",
        f"authorization: {http.headers['authorization']}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def post(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> bytes:
    data = json.dumps(body).encode()
    return head(http, "POST", path, f"content-length: {len(data)}") + data


def upload(http: httpx.AsyncClient, audio: bytes) -> bytes:
    """A recording to transcribe."""
    fields = b'--edge\r\ncontent-disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    file = b'--edge\r\ncontent-disposition: form-data; name="file"; filename="talk.wav"\r\n\r\n' + audio + b"\r\n"
    data = fields + file + b"--edge--\r\n"
    length, kind = f"content-length: {len(data)}", "content-type: multipart/form-data; boundary=edge"
    return head(http, "POST", "/v1/audio/transcriptions", length, kind) + data
