"""One request and its reply: the funnel for errors, streams with their comments, and the race with a disconnect."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing, suppress

import anyio
import msgspec
from anyio.lowlevel import checkpoint

from ark.api.error_body import encode_error
from ark.errors import APIError, RequestTimeout, Unavailable
from ark.http.cors import reply_headers
from ark.http.request import ASGIMessage, ClientDisconnect, Receive, Scope, Send, read_headers, wait_for_disconnect
from ark.http.response import CHUNK_SIZE, EventStream, Response, send_end, send_response, send_stream_start
from ark.http.sse import EventWriter
from ark.ops.limits import Ticket
from ark.ops.record import Record
from ark.services import Services

log = logging.getLogger("ark.app")

Respond = Callable[[], Awaitable[Response | EventStream]]

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

SMALL_BODY = 64 * 1024
"""Bytes of a body that are read though its request is refused, so that the connection can be kept."""
SMALL_BODY_WAIT = 0.5
"""Seconds that reading it may take."""
LINGER = 10.0
"""Seconds for which a refused body is passed over behind the reply: a connection that is closed under unread bytes is
reset, and the client loses the reply."""
LINGER_SILENCE = 1.0
"""Seconds without a piece after which the client is taken to have stopped sending."""
FAREWELL = 1.0
"""Seconds that a server which stops takes to say so to a client whose reply it breaks off."""


class Exchange:
    """One request and its reply. Nothing else sends."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, services: Services | None = None) -> None:
        self.headers = read_headers(scope)
        sent = self.headers.get(b"x-request-id", b"")
        self.id = sent.decode() if _REQUEST_ID.fullmatch(sent) else f"req_{secrets.token_hex(16)}"
        self.record = Record(self.id, scope["method"], scope.get("scheme", "http"), self.headers)
        self._services = services
        self._receive_message = receive
        self._send_message = send
        self._http1 = scope.get("http_version", "1.1").startswith("1")
        self._head = scope["method"] == "HEAD"
        self._what = f"{scope['method']} {scope['path']}"
        self._body_ended = False
        self._disconnected = False
        self._started = False
        self._finished = False
        self._status = 0
        self._error: str | None = None
        self._error_event: Callable[[APIError], bytes] | None = None
        """There once the head of a stream was sent, and events may follow."""
        self._close = False
        self._tasks = anyio.create_task_group()
        """The endpoint with its reply, and the watch of the client."""
        self._stopped = False
        self.ticket: Ticket | None = None
        """There once the request was admitted to an engine."""

    async def receive(self) -> ASGIMessage:
        message = await self._receive_message()
        if message["type"] == "http.disconnect":
            self._disconnected = True
        elif not message.get("more_body", False):
            self._body_ended = True
        return message

    async def refuse(self, error: Exception) -> None:
        """Answer a request that no endpoint sees; its body may still be on the way."""
        try:
            reply = _error_reply(self._public(error))
            if not isinstance(error, RequestTimeout) and self._has_small_body():
                await self._pass_over(SMALL_BODY_WAIT, silence=SMALL_BODY_WAIT)
            if self._disconnected:
                return
            if self._body_ended:
                await self._reply(reply)
                return
            self._close = True
            await self._reply(reply, end=False)
            await self._pass_over(LINGER, silence=LINGER_SILENCE)
            if not self._disconnected:
                await send_end(self._send)
        except ClientDisconnect:
            pass
        finally:
            self.log()

    async def race(self, respond: Respond) -> None:
        """Call the endpoint and send its response, unless the client disconnects first."""

        # Of its own: to end the watch with the whole group would cancel this task as well, which costs more.
        watching = anyio.CancelScope()
        heard = False

        async def watch() -> None:
            nonlocal heard
            with watching:
                await wait_for_disconnect(self.receive)
                heard = True
                # The same message also follows a reply that was sent whole.
                if not self._finished:
                    tasks.cancel_scope.cancel()

        try:
            async with self._tasks as tasks:
                tasks.start_soon(watch)
                await self._run(respond)
                # Behind a whole reply most servers tell of a disconnect at once. To let the watch hear that costs less
                # than to cancel it.
                await checkpoint()
                if not heard:
                    watching.cancel()
            if self._stopped and not (self._finished or self._disconnected):
                await self._break_off()
        except anyio.get_cancelled_exc_class():
            # By the server, which stops before the reply is whole.
            if not self._finished:
                await self._break_off()
            raise
        finally:
            self.log()

    def stop(self) -> None:
        """Break off a reply that is being made, and tell the client that the server stops."""
        self._stopped = True
        self._tasks.cancel_scope.cancel()

    def log(self) -> None:
        """The exchange is over: into the log, the metrics and the traces."""
        disconnected = self._disconnected and not self._finished
        self.record.end(status=self._status, disconnected=disconnected, error=self._error)
        if self._services is not None:
            self._services.observe(self.record)
        fields: dict[str, object] = {
            "request_id": self.id,
            "request": self._what,
            "status": self._status or None,
            "seconds": round(self.record.ended - self.record.begun, 4),
        }
        if self._error is not None:
            fields["error"] = self._error
        if self.record.trace_id is not None:
            fields["trace_id"] = self.record.trace_id
        log.info("client disconnected" if disconnected else "request", extra={"fields": fields})

    async def _run(self, respond: Respond) -> None:
        try:
            try:
                reply = await respond()
                if isinstance(reply, EventStream):
                    await self._stream(reply)
                else:
                    await self._reply(reply)
            except ClientDisconnect:
                raise
            except Exception as error:  # noqa: BLE001
                await self._fail(self._public(error))
        except ClientDisconnect:
            return

    async def _break_off(self) -> None:
        """Say that the server stops."""
        stopping = self._public(Unavailable("The server is shutting down.", code="draining"))
        with anyio.move_on_after(FAREWELL, shield=True), suppress(ClientDisconnect, APIError):
            await self._fail(stopping)

    def _public(self, error: Exception) -> APIError:
        """What the client may see of an error. One that is not meant for clients is logged and hidden."""
        if not isinstance(error, APIError):
            log.error("unexpected error", exc_info=error, extra={"fields": {"request_id": self.id}})
            error = APIError(f"The server had an unexpected error. Its log has more under {self.id}.")
        self._error = error.code or error.type
        self.record.fail(error)
        return error

    async def _fail(self, error: APIError) -> None:
        """The funnel: an error reply, or the last event of a stream that has begun."""
        if not self._started:
            await self._reply(_error_reply(error))
        elif self._error_event is not None and not self._finished:
            self._finished = True
            await self._send({"type": "http.response.body", "body": self._error_event(error), "more_body": False})
        else:
            # The server then closes the connection, which is all that can still be said.
            raise error

    def _headers(self, headers: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """A reply's own headers and those of every reply."""
        more = [] if self.ticket is None else self.ticket.headers()
        close = self._close
        if self._services is not None:
            close = close or self._services.draining
            cors = self._services.config.server.cors
            if cors is not None:
                more += reply_headers(cors, self.headers)
        # HTTP/2 has no such header, and its connections carry other requests.
        if close and self._http1:
            more.append(("connection", "close"))
        return [*headers, *more, ("x-request-id", self.id)]

    async def _reply(self, reply: Response, *, end: bool = True) -> None:
        self._started, self._finished, self._status = True, True, reply.status
        headers = self._headers(reply.headers)
        reply = msgspec.structs.replace(reply, headers=headers)
        try:
            if len(reply.body) > CHUNK_SIZE:
                await send_response(self._send, reply, head=self._head, end=end)
                return
            # One piece, and one limit of time for it and its head.
            with self._limit() as scope:
                await send_response(self._hand_over, reply, head=self._head, end=end)
        except anyio.get_cancelled_exc_class():
            # By the server, which stops. How much of it the client has is not known.
            self._finished = False
            raise
        self._check_limit(scope)

    async def _stream(self, stream: EventStream) -> None:
        """Send events as they come, and comments while there are none."""

        async def hand_over(event: bytes) -> None:
            await self._start(stream)
            await self._hand_over({"type": "http.response.body", "body": event, "more_body": True})

        async def send(comment: bytes) -> None:
            await self._start(stream)
            await self._send({"type": "http.response.body", "body": comment, "more_body": True})

        if self._services is None:
            raise RuntimeError("only a server that runs streams")
        interval = self._services.config.server.keep_alive
        timeout = self._services.config.limits.write_timeout
        writer = EventWriter(hand_over, send, interval=interval, timeout=timeout)
        failure: Exception | None = None
        async with aclosing(stream.events) as events, anyio.create_task_group() as tasks:
            tasks.start_soon(writer.keep_alive, tasks.cancel_scope.cancel)
            # Caught here: a task group would wrap it, and the comment must stop before the error is sent.
            try:
                async for event in events:
                    await writer.write(event)
            except Exception as error:  # noqa: BLE001
                failure = error
            writer.end()
        if writer.unread:
            self._give_up()
        if self._disconnected:
            raise ClientDisconnect
        if failure is not None:
            try:
                raise failure
            finally:
                # Its traceback has this frame.
                del failure
        self._finished = True
        await self._start(stream)
        await send_end(self._send)

    async def _start(self, stream: EventStream) -> None:
        if not self._started:
            self._started, self._status = True, 200
            await send_stream_start(self._send, self._headers(stream.headers))
            self._error_event = stream.error_event

    async def _send(self, message: ASGIMessage) -> None:
        with self._limit() as scope:
            await self._hand_over(message)
        self._check_limit(scope)

    def _limit(self) -> anyio.CancelScope:
        """Around what is sent, which may take so long."""
        timeout = None if self._services is None else self._services.config.limits.write_timeout
        return anyio.move_on_after(timeout)

    def _check_limit(self, scope: anyio.CancelScope) -> None:
        if scope.cancelled_caught:
            self._give_up()
            raise ClientDisconnect

    async def _hand_over(self, message: ASGIMessage) -> None:
        """Send without a limit of time, which the caller has to see to."""
        try:
            await self._send_message(message)
        except OSError as error:
            # What ASGI asks of a server when the client has disconnected; hypercorn keeps silent instead.
            self._disconnected, self._finished = True, False
            raise ClientDisconnect from error

    def _give_up(self) -> None:
        """Servers wait with a message until the client has read most of what they hold for it; this one does not."""
        self._disconnected, self._finished, self._error = True, False, "write_timeout"

    def _has_small_body(self) -> bool:
        declared = self.headers.get(b"content-length", b"0")
        if b"transfer-encoding" in self.headers or not declared.isdigit():
            return False
        return len(declared) < 10 and int(declared) <= SMALL_BODY

    async def _pass_over(self, seconds: float, *, silence: float) -> None:
        """Read what the client still sends, until its end, for at most `seconds`."""
        with anyio.move_on_after(seconds):
            while not (self._body_ended or self._disconnected):
                with anyio.move_on_after(silence) as piece:
                    await self.receive()
                if piece.cancelled_caught:
                    return


def _error_reply(error: APIError) -> Response:
    return Response(body=encode_error(error), status=error.status, headers=[*error.headers.items()])
