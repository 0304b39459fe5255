"""What connections of ``ark serve`` write for a reply, and in how many pieces."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio.lowlevel
import pytest
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.events import Closed, RawData
from hypercorn.typing import ConnectionState

from ark.process.hypercorn_patches import HTTP1

pytestmark = pytest.mark.anyio

LENGTH = (b"content-length", b"3")
CLOSED = b"closed"


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def written(*messages: dict[str, Any], method: str = "GET") -> list[list[bytes]]:
    """What is written behind each message of an application, and behind its end."""
    pieces: list[list[bytes]] = [[]]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
            await anyio.lowlevel.checkpoint()
            pieces.append([])

    async def send(event: Any) -> None:
        if isinstance(event, RawData):
            pieces[-1].append(bytes(event.data))
        elif isinstance(event, Closed):
            pieces[-1].append(CLOSED)

    config = Config()
    config.include_date_header = config.include_server_header = False
    with anyio.fail_after(60):
        async with TaskGroup(asyncio.get_running_loop()) as tasks:
            context, state = WorkerContext(None), ConnectionState({})
            protocol = HTTP1(ASGIWrapper(app), config, context, tasks, state, False, None, None, send)
            await protocol.handle(RawData(f"{method} / HTTP/1.1\r\nhost: a\r\n\r\n".encode()))
    return pieces


async def test_a_whole_reply_is_one_piece() -> None:
    head = b"HTTP/1.1 200 \r\ncontent-length: 3\r\n\r\n"
    assert await written(start(LENGTH), body(b"abc")) == [[], [head + b"abc"], []]


async def test_a_stream_begins_with_its_head() -> None:
    head = b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n"
    stream = await written(start(), body(b"abc", more=True), body(b"de", more=True), body(b""))
    assert stream == [[], [head + b"3\r\nabc\r\n"], [b"2\r\nde\r\n"], [b"0\r\n\r\n"], []]


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_a_head_alone_is_not_held_back(method: str, status: int) -> None:
    headers = [] if status == 204 else [LENGTH]
    pieces = await written(start(*headers, status=status), body(b"", more=True), body(b""), method=method)
    assert [len(one) for one in pieces] == [1, 0, 0, 0]
    assert pieces[0][0].startswith(b"HTTP/1.1 %d " % status)


async def test_a_reply_that_breaks_off_behind_its_head() -> None:
    head = b"HTTP/1.1 200 \r\ncontent-length: 3\r\n\r\n"
    assert await written(start(LENGTH)) == [[], [head, CLOSED]]


async def test_what_is_not_the_applications_reply_is_not_held_back() -> None:
    assert await written() == [[b"HTTP/1.1 500 \r\ncontent-length: 0\r\nconnection: close\r\n\r\n", CLOSED]]
