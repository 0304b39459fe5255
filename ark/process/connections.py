"""Connections of ``ark serve``: hypercorn's, held to the time for a head and to HTTP alone.

By itself hypercorn closes one whose head comes too slowly without a word, keeps one for ever that begins HTTP/2 or a
WebSocket and then does nothing, keeps one that its client has closed as long as one that may still be used, changes to
HTTP/2 where a request asks for it, past what a proxy in front lets through, and writes the head of a request whose
change fails into the log, with its key. Requests that a client sent behind a stream and left keep a task for ever. It
also starts two tasks for each request to watch the time, and writes a reply's head by itself, both of which cost more
than they have to.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress

import h11
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

from ark.api.error_body import encode_error
from ark.errors import RequestTimeout

log = logging.getLogger("ark.app")

GOODBYE = 2.0
"""Seconds for the client of an idle connection over TLS to say goodbye."""


class Connection(TCPServer):
    """One connection."""

    _last_active: float
    """When a request last came or ended, by the clock of the event loop."""

    async def run(self) -> None:
        self._last_active = self.loop.time()
        try:
            await super().run()
        except* Exception as group:  # noqa: BLE001
            # Not the messages: they may hold what the client sent.
            fields = {"errors": sorted({type(error).__name__ for error in group.exceptions})}
            log.warning("a connection was closed for what came over it", extra={"fields": fields})

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated):
            # Hypercorn makes a new clock for each request and each reply, and has none while a connection is not idle,
            # which is what it also calls one without a request.
            self._last_active = self.loop.time()
            if self.context.terminated.is_set():
                # HTTP/1.1 closes a connection behind its last reply, HTTP/2 leaves it to whoever sees that it is idle.
                await self.idle_task.restart(self._task_group, self._idle_timeout)
        else:
            await super().protocol_send(event)

    async def _read_data(self) -> None:
        await super()._read_data()
        # There is no next request to wait for, and the socket is closed when the last one is over.
        await self.idle_task.stop()

    async def _idle_timeout(self) -> None:
        wait = self.config.keep_alive_timeout
        left = wait
        while left > 0 and not self.context.terminated.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self.context.terminated.wait(), left)
            left = wait if self._has_requests() else self._last_active + wait - self.loop.time()
        if self._has_requests():
            # It is looked at again when the last one has ended.
            return
        await asyncio.shield(self._initiate_server_close())

    async def _initiate_server_close(self) -> None:
        # One that sent nothing is idle, and wants no reply; and a server that stops has not waited the whole time.
        if self._head_has_begun() and not self.context.terminated.is_set():
            request_id = f"req_{secrets.token_hex(16)}"
            self.writer.write(_reply(request_id))
            fields = {"request_id": request_id, "status": RequestTimeout.status, "error": RequestTimeout.code}
            log.info("slow head", extra={"fields": fields})
        await super()._initiate_server_close()
        if self.writer.get_extra_info("ssl_object") is not None:
            # TLS ends when the client says so too, for which it would wait half a minute, and a server that stops with
            # it.
            self.loop.call_later(GOODBYE, self.writer.transport.abort)

    def _has_requests(self) -> bool:
        protocol = self.protocol.protocol
        streams = protocol.streams.values() if isinstance(protocol, H2Protocol) else [protocol.stream]
        return any(stream is not None and not stream.closed for stream in streams)

    def _head_has_begun(self) -> bool:
        protocol = self.protocol.protocol
        return isinstance(protocol, H11Protocol) and protocol.connection.trailing_data[0] != b""


class HTTP1(H11Protocol):
    """HTTP/1.1 that never becomes something else: a server may take a request that asks for it as it is."""

    _head = b""
    """Of a reply, until what stands behind it is there: together they are one write instead of two."""

    async def handle(self, event: Event) -> None:
        await super().handle(event)
        if isinstance(event, Closed):
            # Requests that were sent behind the one that ended so are nobody's. Hypercorn would wait for ever until it
            # may read them.
            self.connection.next_event = _nothing  # type: ignore[method-assign]
            await self.can_read.set()

    async def stream_send(self, event: StreamEvent) -> None:
        if isinstance(event, StreamClosed) and self._head:
            # Nothing came behind it.
            head, self._head = self._head, b""
            await self.send(RawData(data=head))
        await super().stream_send(event)

    async def _send_h11_event(self, event: H11SendableEvent) -> None:
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

    def _has_body(self, status: int) -> bool:
        return isinstance(self.stream, HTTPStream) and not suppress_body(self.stream.scope["method"], status)

    async def _check_protocol(self, event: h11.Request) -> None:
        await super()._check_protocol(_without_upgrade(event))

    async def _create_stream(self, request: h11.Request) -> None:
        await super()._create_stream(_without_upgrade(request))


def _nothing() -> type[h11.NEED_DATA]:
    return h11.NEED_DATA


def _without_upgrade(request: h11.Request) -> h11.Request:
    headers = [(name, value) for name, value in request.headers if name != b"upgrade"]
    if len(headers) == len(request.headers):
        return request
    return h11.Request(method=request.method, headers=headers, target=request.target, http_version=request.http_version)


def _reply(request_id: str) -> bytes:
    body = encode_error(RequestTimeout("The request's head came too slowly."))
    head = (
        "HTTP/1.1 408 Request Timeout\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        f"connection: close\r\nx-request-id: {request_id}\r\n\r\n"
    )
    return head.encode() + body


def use() -> None:
    """Have hypercorn serve this process' connections so. It has no settings for it."""
    run.TCPServer = Connection  # type: ignore[attr-defined]
    hypercorn.protocol.H11Protocol = HTTP1  # type: ignore[attr-defined]
