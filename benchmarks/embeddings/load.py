"""Clients that each send one request after another, and what they measure."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import urlsplit

WARM = 0.15
"""Share of a run that is warm-up and does not count."""


@dataclass(frozen=True)
class Result:
    """One run."""

    texts_per_second: float
    p50: float
    """Milliseconds."""
    p99: float
    requests: int


def result(latencies: list[tuple[float, float]], begin: float, end: float) -> Result:
    """`latencies` are (moment of the answer, seconds); those that came between `begin` and `end` count."""
    counted = sorted(seconds for moment, seconds in latencies if begin <= moment <= end)
    if not counted:
        raise RuntimeError("no request was answered in time: give it more --seconds")
    at = [counted[min(len(counted) - 1, int(share * len(counted)))] * 1000 for share in (0.5, 0.99)]
    return Result(len(counted) / (end - begin), at[0], at[1], len(counted))


async def closed_loop(ask: Callable[[int], Awaitable[Callable[[str], Awaitable[Any]]]], texts: list[str],
                      clients: int, seconds: float) -> Result:  # fmt: skip
    """Run `clients` at once. `ask` makes the function by which one client sends a request."""
    latencies: list[tuple[float, float]] = []
    number = count()
    begin = time.perf_counter() + WARM * seconds
    end = begin + (1 - WARM) * seconds

    async def client(which: int) -> None:
        call = await ask(which)
        while (started := time.perf_counter()) < end:
            await call(texts[next(number) % len(texts)])
            done = time.perf_counter()
            latencies.append((done, done - started))

    await asyncio.gather(*(client(which) for which in range(clients)))
    return result(latencies, begin, end)


class HTTPClient:
    """POST over one kept connection, with as little of the client's own work as possible: it shares the machine."""

    def __init__(self, url: str, model: str) -> None:
        parts = urlsplit(url)
        self.host, self.port, self.path = parts.hostname or "127.0.0.1", parts.port or 80, parts.path
        self.model = model

    async def __call__(self, _: int = 0) -> HTTPClient.Connection:
        reader, writer = await asyncio.open_connection(self.host, self.port)
        return HTTPClient.Connection(self, reader, writer)

    class Connection:
        def __init__(self, client: HTTPClient, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._client, self._reader, self._writer = client, reader, writer

        async def __call__(self, text: str) -> bytes:
            client = self._client
            body = json.dumps({"model": client.model, "input": text, "encoding_format": "base64"}).encode()
            head = f"POST {client.path} HTTP/1.1\r\nhost: {client.host}\r\ncontent-type: application/json\r\n"
            self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            header = await self._reader.readuntil(b"\r\n\r\n")
            fields = header.lower()
            if not header.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(header.decode())
            if b"transfer-encoding: chunked" in fields:
                pieces = []
                while size := int(await self._reader.readline(), 16):
                    pieces.append((await self._reader.readexactly(size + 2))[:-2])
                await self._reader.readline()
                return b"".join(pieces)
            length = int(fields.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
            return await self._reader.readexactly(length)
