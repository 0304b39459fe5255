"""Where the server listens, and connections that it has no room for."""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ark.process import hypercorn_patches
from ark.process.hypercorn_patches import ExceptionHandler, ListeningSocket


@contextmanager
def no_more_files() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_behind_a_connection_that_cannot_be_accepted_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(hypercorn_patches.time, "monotonic", lambda: now)
    with (
        ListeningSocket.replace(socket.create_server(("127.0.0.1", 0)), 5.0) as server,
        socket.create_connection(server.getsockname()),
        socket.create_connection(server.getsockname()),
    ):
        with no_more_files():
            with pytest.raises(OSError, match="Too many open files"):
                server.accept()
            with pytest.raises(BlockingIOError):
                server.accept()
        with pytest.raises(BlockingIOError):
            server.accept()
        # When the event loop tries again.
        now += 1.0
        for _ in range(2):
            server.accept()[0].close()


def test_it_listens_where_the_socket_did_that_it_is_made_of() -> None:
    bound = socket.create_server(("127.0.0.1", 0))
    name, number = bound.getsockname(), bound.fileno()
    with ListeningSocket.replace(bound, 7.5) as server:
        assert (bound.fileno(), server.fileno(), server.getsockname()) == (-1, number, name)
        assert (server.family, server.type) == (socket.AF_INET, socket.SOCK_STREAM)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7500


def test_it_is_said_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    class Loop(asyncio.SelectorEventLoop):
        now = 100.0

        def time(self) -> float:
            return self.now

        def default_exception_handler(self, context: dict[str, Any]) -> None:
            others.append(context)

    others: list[dict[str, Any]] = []
    full = {"message": "", "exception": OSError(errno.EMFILE, "Too many open files"), "socket": None}
    handle, loop = ExceptionHandler(), Loop()
    with caplog.at_level(logging.ERROR):
        for seconds in (0.0, 1.0, 58.0, 1.0):
            loop.now += seconds
            handle(loop, full)
    loop.close()
    assert [record.message for record in caplog.records] == [
        "new connections wait, for they cannot be accepted: Too many open files"
    ] * 2
    assert others == []


def test_a_new_try_to_accept_behind_the_end_is_nothing_to_tell(caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    listening = socket.create_server(("127.0.0.1", 0))
    with no_more_files(), pytest.raises(OSError, match="Too many open files"):
        listening.accept()
    listening.close()
    loop.set_exception_handler(ExceptionHandler())
    # As asyncio does a second later.
    loop.call_soon(loop._start_serving, asyncio.Protocol, listening)  # type: ignore[attr-defined]
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert caplog.records == []


@pytest.mark.parametrize(
    "context",
    [
        {"message": "a task failed", "exception": ZeroDivisionError()},
        {"message": "no exception at all"},
        {"message": "a bad file", "exception": ValueError("Invalid file descriptor: -1")},
        {"message": "a file cannot be opened", "exception": OSError(errno.EMFILE, "Too many open files")},
        {"message": "reset", "exception": OSError(errno.ECONNRESET, "Connection reset by peer"), "socket": None},
    ],
)
def test_everything_else_is_said_as_ever(context: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    loop = asyncio.new_event_loop()
    ExceptionHandler()(loop, context)
    loop.close()
    (record,) = caplog.records
    assert (record.name, record.message.splitlines()[0]) == ("asyncio", context["message"])
