"""A WebSocket on which each message is a request, answered by the events of its response, in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec

from ark.http.request import ASGIMessage, Receive, Scope, Send

MAX_WAITING = 16
"""Messages that may wait while a response is made."""
MAX_WAITING_BYTES = 2**20
"""Of all that wait together. One alone may be larger: it is refused or taken as a request's body is."""
_DROPPED = (b"content-length", b"content-type", b"transfer-encoding", b"connection", b"upgrade", b"x-request-id")
"""Headers of the handshake that say nothing of a message."""

Serve = Callable[[Scope, Receive, Send], Awaitable[None]]
"""Answers one request of HTTP."""


class _Message(msgspec.Struct):
    type: str = ""


_read = msgspec.json.Decoder(_Message).decode
_encode = msgspec.json.Encoder().encode


def request_scope(scope: Scope, **more: Any) -> Scope:
    """The scope of the requests that a WebSocket's messages are."""
    headers = [
        (name, value)
        for name, value in scope["headers"]
        if name.lower() not in _DROPPED and not name.lower().startswith(b"sec-websocket-")
    ]
    scheme = {"ws": "http", "wss": "https"}.get(scope.get("scheme", "ws"), "http")
    headers.append((b"content-type", b"application/json"))
    return {**scope, "type": "http", "method": "POST", "scheme": scheme, "headers": headers, **more}


async def deny(scope: Scope, send: Send, status: int, body: bytes) -> None:
    """Refuse a handshake."""
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body, "more_body": False})


class EventSocket:
    """An accepted WebSocket. ``response.create`` asks for a response, ``response.cancel`` ends the one that is made."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, serve: Serve) -> None:
        """`scope` is that of the requests."""
        self._scope = scope
        self._receive = receive
        self._send = send
        self._serve = serve
        self._cancelled = anyio.Event()
        self._waiting = 0
        """Bytes of the messages that wait."""

    async def run(self) -> None:
        """Until the client closes it."""
        await self._send({"type": "websocket.accept"})
        writer, reader = anyio.create_memory_object_stream[bytes](MAX_WAITING)
        async with anyio.create_task_group() as tasks, writer, reader:

            async def read() -> None:
                while (message := await self._receive())["type"] == "websocket.receive":
                    data = message.get("bytes") or (message.get("text") or "").encode("utf-8", "surrogatepass")
                    try:
                        kind = _read(data).type
                    except (msgspec.DecodeError, UnicodeDecodeError):
                        kind = ""
                    if kind == "response.cancel":
                        self._cancelled.set()
                    elif kind != "response.create":
                        await self._refuse("Messages have the type 'response.create' or 'response.cancel'.")
                    elif self._waiting and self._waiting + len(data) > MAX_WAITING_BYTES:
                        await self._refuse(f"More than {MAX_WAITING_BYTES} bytes of requests wait on this connection.")
                    else:
                        try:
                            writer.send_nowait(data)
                            self._waiting += len(data)
                        except anyio.WouldBlock:
                            await self._refuse(f"More than {MAX_WAITING} requests wait on this connection.")
                tasks.cancel_scope.cancel()

            tasks.start_soon(read)
            async for data in reader:
                self._waiting -= len(data)
                await self._answer(data)

    async def _refuse(self, reason: str) -> None:
        error = {"message": reason, "type": "invalid_request_error", "param": "type", "code": "invalid_value"}
        await self._event(_encode({"type": "error", "status": 400, "error": error}))

    async def _answer(self, data: bytes) -> None:
        """One request, from its message to its last event."""
        self._cancelled = anyio.Event()
        body: list[bytes] = [data]
        status, buffer, ended = 0, b"", False

        async def receive() -> ASGIMessage:
            if body:
                return {"type": "http.request", "body": body.pop(), "more_body": False}
            await self._cancelled.wait()
            return {"type": "http.disconnect"}

        async def send(message: ASGIMessage) -> None:
            nonlocal status, buffer, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                return
            buffer += message.get("body", b"")
            ended = not message.get("more_body", False)
            if status == 200:
                *events, buffer = buffer.split(b"\n\n")
                for event in events:
                    # Comments keep a stream alive, which a WebSocket does by itself.
                    if b"data: " in event:
                        await self._event(event.partition(b"data: ")[2])

        await self._serve(self._scope, receive, send)
        if self._cancelled.is_set() and not ended:
            await self._event(_encode({"type": "response.cancelled"}))
        elif status != 200:
            await self._event(b'{"type":"error","status":%d,' % status + buffer[1:])

    async def _event(self, data: bytes) -> None:
        await self._send({"type": "websocket.send", "text": data.decode()})
