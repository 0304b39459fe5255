"""What the fuzzers send over a connection: bytes, to ARK behind hypercorn as `ark serve` has it, in this process."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
from contextlib import suppress
from functools import cache
from itertools import pairwise
from typing import Any

import h2.exceptions
from asgi_client import make_config
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.worker_context import WorkerContext

from ark.app import Ark
from ark.http.request import HEAD_BYTES
from ark.process import hypercorn_patches

TURNS = 30
"""Turns of the event loop that a request may take before its client leaves."""

EXPECTED = {name for name, one in vars(h2.exceptions).items() if isinstance(one, type)} | {"LocalProtocolError"}
"""What a connection may be closed for: the rules of HTTP/2, and of HTTP/1.1 once something was sent."""

BEGINNING = re.compile(rb"HTTP/1\.1 (1\d\d|2\d\d|4\d\d|501|505) ")
PREFACE = b"PRI * HTTP/2.0"


def connection(data: bytes) -> None:
    """Whatever comes over a connection, in three pieces: responses of HTTP or none, no unexpected error, and nothing
    left behind. The first two bytes say where the rest is cut."""
    cuts, content = sorted(data[:2]), data[2:]
    places = [0, *(len(content) * cut // 256 for cut in cuts), len(content)]
    try:
        _server().send([content[start:end] for start, end in pairwise(places)])
    except AssertionError:
        # Its threads would keep the fuzzer from ending, and from saving what it has found.
        _server().close()
        _server.cache_clear()
        raise


@cache
def _server() -> Server:
    return Server()


class Server(logging.Handler):
    """ARK with the echo, and its log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._loop = asyncio.new_event_loop()
        self._app = Ark(make_config(limits={"header_timeout": 600.0}))
        self._context = WorkerContext(None)
        self._problems: list[str] = []
        logging.getLogger("ark").addHandler(self)
        self._loop.run_until_complete(self._start())
        self._tasks = len(asyncio.all_tasks(self._loop))

    def emit(self, record: logging.LogRecord) -> None:
        errors = getattr(record, "fields", {}).get("errors")
        if errors is None or not set(errors) <= EXPECTED:
            self._problems.append(f"{record.getMessage()} {errors} {record.exc_info}")

    def send(self, pieces: list[bytes]) -> None:
        self._problems.clear()
        reply = self._loop.run_until_complete(self._exchange(pieces))
        assert not self._problems, self._problems
        assert not reply or BEGINNING.match(reply) or b"".join(pieces).lstrip(b"\r\n").startswith(PREFACE), reply[:200]

    def close(self) -> None:
        logging.getLogger("ark").removeHandler(self)
        self._running.cancel()
        with suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._running)
        self._loop.close()

    async def _start(self) -> None:
        started = asyncio.Event()

        async def run() -> None:
            async with self._app.lifespan():
                started.set()
                await asyncio.Event().wait()

        self._running = self._loop.create_task(run())
        await started.wait()
        hypercorn_patches.apply(b"{}")
        self._config = hypercorn_patches.Config()
        self._config.errorlog = logging.getLogger("ark.server")
        self._config.keep_alive_timeout = 600.0
        self._config.h11_max_incomplete_size = HEAD_BYTES
        self._config.include_server_header = False

    async def _exchange(self, pieces: list[bytes]) -> bytes:
        here, there = socket.socketpair()
        here.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=there)
        app: Any = ASGIWrapper(self._app)  # type: ignore[arg-type]
        made = hypercorn_patches.Connection(app, self._loop, self._config, self._context, {}, reader, writer)
        serving, reading = self._loop.create_task(made.run()), self._loop.create_task(self._read(here))
        try:
            for piece in pieces:
                await self._loop.sock_sendall(here, piece)
                for _ in range(TURNS):
                    await asyncio.sleep(0)
            here.shutdown(socket.SHUT_WR)
        except OSError:
            # The server has closed it already.
            pass
        await asyncio.wait_for(serving, 20)
        reply = await reading
        here.close()
        # Nothing of the connection goes on.
        for _ in range(TURNS):
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert len(left) < self._tasks + 1, left
        return reply

    async def _read(self, here: socket.socket) -> bytes:
        seen = b""
        try:
            while piece := await self._loop.sock_recv(here, 65536):
                seen += piece
        except OSError:
            pass
        return seen
