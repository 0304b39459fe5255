"""Bad input, and how a server has to refuse it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from client import CHAT, EMBEDDING, Client
from wire import Wire, head, post, wire

BODY_LIMIT = 1_000_000
"""Bytes: the server's `body_bytes` in the soak."""
BODY_TIMEOUT = 2.0
"""Seconds: its `body_timeout`."""
BROKEN = "broken"
"""A model that cannot be opened. Requests for it are the only ones that should get a status over 499."""

Raw = Callable[[Client, Wire], Awaitable[str]]

HELLO = [{"role": "user", "content": "Hello!"}]


def _chat(**fields: Any) -> bytes:
    return json.dumps({"model": CHAT, "messages": HELLO, **fields}).encode()


def _deep(levels: int) -> bytes:
    return b'{"model": "gpt-4o", "messages": [], "metadata": ' + b"[" * levels + b"]" * levels + b"}"


POSTS: Mapping[str, tuple[str, bytes, str, int]] = {
    "not JSON": ("/chat/completions", b'{"model": ', "application/json", 400),
    "not UTF-8": ("/chat/completions", b'{"model": "\xff\xfe"}', "application/json", 400),
    "nothing": ("/chat/completions", b"", "application/json", 400),
    "a list": ("/chat/completions", b"[1, 2]", "application/json", 400),
    "too deep": ("/chat/completions", _deep(5000), "application/json", 400),
    "too large": ("/chat/completions", _chat(metadata="x" * BODY_LIMIT), "application/json", 413),
    "another type": ("/chat/completions", _chat(), "text/plain", 415),
    "no messages": ("/chat/completions", _chat(messages=[]), "application/json", 400),
    "messages of numbers": ("/chat/completions", _chat(messages=[1, 2]), "application/json", 400),
    "too hot": ("/chat/completions", _chat(temperature=9), "application/json", 400),
    "a lone surrogate": ("/chat/completions", _chat()[:-1] + b', "stop": "\\ud800"}', "application/json", 400),
    "a huge number": ("/chat/completions", _chat()[:-1] + b', "max_tokens": 1e400}', "application/json", 400),
    "too long": (
        "/chat/completions",
        _chat(messages=[{"role": "user", "content": "long " * 9000}]),
        "application/json",
        400,
    ),
    "a bad schema": (
        "/chat/completions",
        _chat(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nothing"}}}),
        "application/json",
        400,
    ),
    "a bad session": ("/chat/completions", _chat(ark_stateful="nobody"), "application/json", 400),
    "a strange cookie": ("/chat/completions", _chat(max_tokens=1), "application/json", 200),
    "an unknown model": ("/chat/completions", _chat(model="nothing"), "application/json", 404),
    "an embedding model": ("/chat/completions", _chat(model=EMBEDDING), "application/json", 400),
    "a broken model": ("/chat/completions", _chat(model=BROKEN), "application/json", 503),
    "an empty input": ("/embeddings", b'{"model": "text-embedding-3-small", "input": ""}', "application/json", 400),
    "foreign ids": ("/embeddings", b'{"model": "all-MiniLM-L6-v2", "input": [9999999]}', "application/json", 400),
    "too many inputs": (
        "/embeddings",
        json.dumps({"model": EMBEDDING, "input": ["a"] * 2049}).encode(),
        "application/json",
        400,
    ),
    "an unknown path": ("/nothing", b"{}", "application/json", 404),
    "a wrong method": ("/models", b"{}", "application/json", 405),
    "no multipart": ("/audio/transcriptions", b"{}", "application/json", 0),
    "half a multipart": ("/audio/transcriptions", b"--a\r\ncontent", "multipart/form-data; boundary=a", 0),
}
"""Path, body, content type and the required status; 0 for any from 400 to 499."""


async def _garbage(client: Client, connection: Wire) -> str:
    await connection.send(client.draw.randbytes(300) + b"\r\n\r\n")
    return _expected(await connection.status(), {400, None})


async def _pipelined_garbage(client: Client, connection: Wire) -> str:
    await connection.send(head(client.http, "GET", "/health") + b"\x00\x01 garbage\r\n\r\n")
    return _expected(await connection.status(), {200})


async def _long_head(client: Client, connection: Wire) -> str:
    await connection.send(head(client.http, "GET", "/health", "x-long: " + "x" * 70_000))
    return _expected(await connection.status(), {400, 431})


async def _bad_chunk(client: Client, connection: Wire) -> str:
    await connection.send(head(client.http, "POST", "/v1/chat/completions", "transfer-encoding: chunked") + b"zz\r\n")
    return _expected(await connection.status(), {400, None})


async def _two_lengths(client: Client, connection: Wire) -> str:
    lengths = ("content-length: 5", "content-length: 6")
    await connection.send(head(client.http, "POST", "/v1/chat/completions", *lengths) + b"{}    ")
    return _expected(await connection.status(), {400, None})


async def _slow_body(client: Client, connection: Wire) -> str:
    """A byte, and then nothing."""
    await connection.send(head(client.http, "POST", "/v1/chat/completions", "content-length: 50") + b"{")
    return _expected(await connection.status(), {408})


async def _slow_head(client: Client, connection: Wire) -> str:
    """Send a byte of a header now and then, until the server refuses."""
    await connection.send(head(client.http, "GET", "/health")[:-2])
    answer = asyncio.create_task(connection.status())
    try:
        for _ in range(60):
            await connection.send(b"x")
            await asyncio.wait([answer], timeout=0.5)
            if answer.done():
                return _expected(await answer, {408})
    except ConnectionError:
        # It came too late for the byte that was just sent.
        return _expected(await answer, {408, None})
    finally:
        answer.cancel()
    return "the connection is still open"


async def _foreign_session(client: Client, connection: Wire) -> str:
    """Request another key's session by its name, which has to look as if it did not exist."""
    await connection.send(head(client.http, "GET", f"/v1/sessions/{uuid.uuid4()}"))
    return _expected(await connection.status(), {404})


async def _wrong_key(client: Client, connection: Wire) -> str:
    request = post(client.http, "/v1/chat/completions", {"model": CHAT, "messages": HELLO})
    await connection.send(request.replace(b"Bearer ", b"Bearer x"))
    return _expected(await connection.status(), {401})


RAW: Mapping[str, Raw] = {
    "garbage": _garbage,
    "garbage behind a request": _pipelined_garbage,
    "a long head": _long_head,
    "a bad chunk": _bad_chunk,
    "two lengths": _two_lengths,
    "a slow body": _slow_body,
    "a slow head": _slow_head,
    "a foreign session": _foreign_session,
    "a wrong key": _wrong_key,
}

KINDS = (*POSTS, *RAW)


async def send_bad(client: Client, kind: str) -> str:
    """Send it, and return what is wrong with the answer; an empty text if nothing is."""
    if kind in RAW:
        async with wire(client.http) as connection:
            return await RAW[kind](client, connection)
    path, body, content_type, status = POSTS[kind]
    headers = {"content-type": content_type} if content_type else {}
    if kind == "a strange cookie":
        headers["cookie"] = 'ark_session_id=; a="b; ark_session_id=%00; =;;'
    reply = await client.http.post(path, content=body, headers=headers)
    client.book.statuses[reply.status_code] += 1
    allowed = {status} if status else set(range(400, 500))
    return _expected(reply.status_code, allowed) and f"{reply.status_code} {reply.text[:200]}"


def _expected(status: int | None, allowed: set[int | None] | set[int]) -> str:
    return "" if status in allowed else f"the answer is {status}"
