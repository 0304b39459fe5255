"""Hypercorn 0.18 for ``ark serve``, with overrides of private parts where it has no setting.

Each override names the fault that it mends, and the test that fails without it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import secrets
import socket
import time
from contextlib import suppress
from typing import Any

import h11
import hypercorn.config
import hypercorn.protocol
from hypercorn.asyncio import run
from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import StreamClosed
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.typing import H11SendableEvent
from hypercorn.utils import suppress_body

from ark.http.errors import RequestTimeout

log = logging.getLogger("ark.server")

TLS_GOODBYE = 2.0
"""Seconds for the client of an idle TLS connection to close it too."""

_FULL = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_FULL_PAUSE = 0.5
"""Seconds without a connection after one that could not be accepted. Asyncio tries again after one second."""
_FULL_SILENCE = 60.0
"""Seconds between two lines of the log about it."""


class Config(hypercorn.config.Config):
    """Hypercorn's settings, with ARK's listening sockets."""

    write_timeout = 60.0

    def create_sockets(self) -> hypercorn.config.Sockets:
        sockets = super().create_sockets()
        for some in (sockets.secure_sockets, sockets.insecure_sockets):
            some[:] = [ListeningSocket.replace(bound, self.write_timeout) for bound in some]
        return sockets


def apply(slow_head: bytes) -> None:
    """Patch hypercorn in this process, and the running event loop. `slow_head` is the JSON body of the 408 for a
    request whose head comes too slowly."""
    Connection.slow_head = slow_head
    run.TCPServer = Connection  # type: ignore[attr-defined]
    hypercorn.protocol.H11Protocol = HTTP1  # type: ignore[attr-defined]
    asyncio.get_running_loop().set_exception_handler(ExceptionHandler())


class Connection(TCPServer):
    """One connection."""

    slow_head = b""
    _last_active: float
    """When a request last came or ended, by the event loop's clock."""

    async def run(self) -> None:
        """Fault: what fails in a protocol is logged with its message, which holds what the client sent, keys included.
        Seen by test_the_log_has_nothing_of_a_requests_text."""
        self._last_active = self.loop.time()
        try:
            await super().run()
        except* Exception as group:  # noqa: BLE001
            fields = {"errors": sorted({type(error).__name__ for error in group.exceptions})}
            log.warning("a connection was closed for what came over it", extra={"fields": fields})

    async def protocol_send(self, event: Event) -> None:
        """Faults: each request and each response starts a task that watches the time, which costs more than it should;
        and none watches a connection whose only request never ends. Seen by benchmarks/server/cost.py, and by
        test_what_begins_another_protocol_and_asks_nothing_is_closed."""
        if not isinstance(event, Updated):
            await super().protocol_send(event)
            return
        self._last_active = self.loop.time()
        if self.context.terminated.is_set():
            # HTTP/1.1 closes a connection after its last response; HTTP/2 leaves that to whoever sees it idle.
            await self.idle_task.restart(self._task_group, self._idle_timeout)

    async def _read_data(self) -> None:
        """Fault: a connection that its client closed is kept as long as one that may still be used.
        Seen by test_those_that_clients_close_are_closed_at_once."""
        await super()._read_data()
        await self.idle_task.stop()

    async def _idle_timeout(self) -> None:
        """Wait for an idle connection, however often it becomes one.
        Seen by test_the_time_of_an_idle_connection_begins_with_its_last_reply."""
        left = self.config.keep_alive_timeout
        while left > 0 and not self.context.terminated.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self.context.terminated.wait(), left)
            wait = self.config.keep_alive_timeout
            left = wait if self._has_requests() else self._last_active + wait - self.loop.time()
        if not self._has_requests():
            await asyncio.shield(self._initiate_server_close())

    async def _initiate_server_close(self) -> None:
        """Faults: a head that comes too slowly gets no response; and the end of an idle TLS connection waits half a
        minute for its client, and a server that stops with it. Seen by test_one_that_does_not_come_is_408, and by
        test_a_client_of_https_that_keeps_its_connection_does_not_keep_the_server."""
        # A server that stops has not waited the whole time.
        if self._head_has_begun() and not self.context.terminated.is_set():
            request_id = f"req_{secrets.token_hex(16)}"
            self.writer.write(
                b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
                b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n%b"
                % (request_id.encode(), len(self.slow_head), self.slow_head)
            )
            fields = {"request_id": request_id, "status": RequestTimeout.status, "error": RequestTimeout.code}
            logging.getLogger("ark.app").info("slow head", extra={"fields": fields})
        await super()._initiate_server_close()
        if self.writer.get_extra_info("ssl_object") is not None:
            self.loop.call_later(TLS_GOODBYE, self.writer.transport.abort)

    def _has_requests(self) -> bool:
        protocol = self.protocol.protocol
        streams = protocol.streams.values() if isinstance(protocol, H2Protocol) else [protocol.stream]
        return any(stream is not None and not stream.closed for stream in streams)

    def _head_has_begun(self) -> bool:
        protocol = self.protocol.protocol
        return isinstance(protocol, H11Protocol) and protocol.connection.trailing_data[0] != b""


class HTTP1(H11Protocol):
    """HTTP/1.1 of one connection."""

    _head = b""
    """Of a response, until what follows is there."""

    async def handle(self, event: Event) -> None:
        """Fault: requests that a client sent behind a stream and left keep a task for ever, which waits until it may
        read them. Seen by test_clients_that_ask_again_and_leave_keep_nothing."""
        await super().handle(event)
        if isinstance(event, Closed):
            self.connection.next_event = _need_data  # type: ignore[method-assign]
            await self.can_read.set()

    async def _check_protocol(self, event: h11.Request) -> None:
        """Fault: a request can change its connection to HTTP/2 (h2c), past what a proxy in front lets through. A server
        may ignore such a request, here and in `_create_stream`, where a WebSocket begins on its one path.
        Seen by test_a_request_does_not_become_another_protocol."""
        await super()._check_protocol(_without_upgrade(event))

    async def _create_stream(self, request: h11.Request) -> None:
        """Fault: the application is told of a HEAD in small letters as of any, and sends no body, which h11 waits for.
        Seen by the fuzzer of connections, and by test_a_method_in_small_letters_is_answered."""
        self.connection._request_method = request.method.upper()  # type: ignore[union-attr]
        path = request.target.partition(b"?")[0].rstrip(b"/")
        await super()._create_stream(request if path.endswith(b"/responses") else _without_upgrade(request))

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
        """Fault: a response's head is a write of its own, which costs as much as the rest of a small one.
        Seen by test_a_whole_reply_is_one_piece."""
        try:
            data = self._head + self.connection.send(event)
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        self._head = b""
        if isinstance(event, h11.Response) and self._has_body(event.status_code):
            self._head = data
        elif data:
            await self.send(RawData(data=data))

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, StreamClosed) and self._head:
            # The response broke off behind its head.
            head, self._head = self._head, b""
            await self.send(RawData(data=head))
        await super().stream_send(event)

    def _has_body(self, status: int) -> bool:
        return isinstance(self.stream, HTTPStream) and not suppress_body(self.stream.scope["method"], status)


def _need_data() -> type[h11.NEED_DATA]:
    return h11.NEED_DATA


def _without_upgrade(request: h11.Request) -> h11.Request:
    headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
    if len(headers) == len(request.headers):
        return request
    return h11.Request(method=request.method, headers=headers, target=request.target, http_version=request.http_version)


class ListeningSocket(socket.socket):
    """A listening socket that accepts nothing for a moment when no more files can be opened.

    Fault, of asyncio itself: it accepts as many connections at once as the backlog has, goes on to the last though each
    of them fails, and begins anew a second later for every one that has. The log and the processor would soon be full
    of it. Seen by test_behind_a_connection_that_cannot_be_accepted_nobody_waits.
    """

    _full_until = -math.inf

    @classmethod
    def replace(cls, bound: socket.socket, user_timeout: float) -> ListeningSocket:
        """In place of `bound`, which is closed by it.

        After `user_timeout` seconds the kernel ends connections whose client takes nothing of what is sent: ARK gives
        its response up, but what is buffered would keep the connection open.
        """
        listening = cls(fileno=bound.detach())
        if listening.family != socket.AF_UNIX and hasattr(socket, "TCP_USER_TIMEOUT"):
            # A connection has what its listening socket has.
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(user_timeout * 1000))
        return listening

    def accept(self) -> tuple[socket.socket, Any]:
        if time.monotonic() < self._full_until:
            raise BlockingIOError
        try:
            return super().accept()
        except OSError as error:
            if error.errno in _FULL:
                self._full_until = time.monotonic() + _FULL_PAUSE
            raise


class ExceptionHandler:
    """The event loop's exception handler: logs once a minute that connections cannot be accepted."""

    def __init__(self) -> None:
        self._logged = -math.inf

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, ValueError) and "_start_serving" in context["message"]:
            # It would have tried again, and the server has stopped meanwhile.
            return
        if not (isinstance(error, OSError) and error.errno in _FULL and "socket" in context):
            loop.default_exception_handler(context)
        elif loop.time() - self._logged >= _FULL_SILENCE:
            self._logged = loop.time()
            log.error("new connections wait, for they cannot be accepted: %s", error.strerror)
