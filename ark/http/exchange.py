"""One request and its response: what is sent in which state, and what happens when the client disconnects."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from enum import Enum, auto
from urllib.parse import quote

import anyio
from anyio.lowlevel import checkpoint

from ark.http.errors import APIError, RequestTimeout, Unavailable
from ark.http.request import ASGIMessage, ClientDisconnect, Receive, Scope, Send, WriteTimeout, is_http1
from ark.http.response import CHUNK_SIZE, EventStream, Response
from ark.http.sse import EventWriter

Headers = Sequence[tuple[str, str]]
Respond = Callable[[], Awaitable[Response | EventStream]]

SMALL_BODY = 64 * 1024
"""Bytes of a body that are read though its request is refused, so that the connection can be kept."""
SMALL_BODY_WAIT = 0.5
"""Seconds that reading it may take."""
LINGER = 10.0
"""Seconds for which a refused body is discarded after the response. A connection that is closed under unread bytes is
reset, and the client loses the response."""
LINGER_SILENCE = 1.0
"""Seconds without a chunk after which the client is taken to have stopped sending."""
FAREWELL = 1.0
"""Seconds that a server which stops takes to tell a client that its response ends here."""

CLOSE = ("connection", "close")
"""Ends an HTTP/1 connection with its response. HTTP/2 has no such header, and its connections carry other requests."""

_STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    # nginx buffers streams without it.
    (b"x-accel-buffering", b"no"),
]


class Client(Enum):
    """What the client does."""

    SENDING = auto()  # its body is on the way
    WAITING = auto()  # it has sent its whole body
    DISCONNECTED = auto()
    STALLED = auto()  # it keeps the connection open and reads nothing


_LOST = (Client.DISCONNECTED, Client.STALLED)


class State(Enum):
    """How much of the response has been sent, and so what can still be said."""

    IDLE = auto()  # nothing; an error is an ordinary response
    STARTING = auto()  # the server has the head of a stream; an error can only end the connection
    STREAMING = auto()  # events may follow; an error is the last of them
    FINISHING = auto()  # the server has the last of it; the client may disconnect as soon as it has that, too
    DONE = auto()


class Exchange:
    """One request and its response. Nothing else sends.

    The application says what goes into it: `public_error` is what a client may know of an exception, `encode_error`
    the body that tells it, and `extra_headers` are those of every response, asked for when one starts. `keep_alive`
    are the seconds of silence after which a stream gets a comment, `write_timeout` those in which the client has to
    take a chunk.
    """

    def __init__(
        self,
        scope: Scope,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        send: Send,
        *,
        public_error: Callable[[BaseException], APIError],
        encode_error: Callable[[APIError], bytes],
        extra_headers: Callable[[], Headers],
        keep_alive: float,
        write_timeout: float,
    ) -> None:
        self.client = Client.SENDING
        self.state = State.IDLE
        self.status = 0
        """Of the response; 0 before it starts."""
        self._http1 = is_http1(scope)
        self._receive = receive
        self._send_message = send
        self._public_error = public_error
        self._encode_error = encode_error
        self._extra_headers = extra_headers
        self._interval = keep_alive
        self._write_timeout = write_timeout
        self._head_only = scope["method"] == "HEAD"
        length = headers.get(b"content-length", b"0")
        self._small_body = b"transfer-encoding" not in headers and length.isdigit() and int(length[:10]) <= SMALL_BODY
        self._error_event: Callable[[APIError], bytes] | None = None
        self._tasks = anyio.create_task_group()
        """The endpoint with its response, the watch of the client, and a stream's comments."""

    @property
    def disconnected(self) -> bool:
        """The client did not take all of the response."""
        return self.state is not State.DONE and not self._connected

    @property
    def _connected(self) -> bool:
        return self.client not in _LOST

    async def receive(self) -> ASGIMessage:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.client = Client.DISCONNECTED
        elif not message.get("more_body", False):
            self.client = Client.WAITING
        return message

    def expire_at(self, deadline: float) -> None:
        """Set when the exchange ends at the latest. Each wait for the client sets it, and infinity when it is over: one
        scope whose deadline moves costs less than one for each wait."""
        self._tasks.cancel_scope.deadline = deadline

    async def run(self, admit: Callable[[], Awaitable[Respond]]) -> None:
        """Send what `admit` returns the maker of, or the error that it raises, unless the client disconnects first."""
        try:
            async with self._tasks:
                await self._run(admit)
            if self.state is not State.DONE:
                await self._end()
        except anyio.get_cancelled_exc_class():
            # By the server, which stops too. A request that it was still reading gets no response.
            if self.client is not Client.SENDING:
                await self._break_off()
            raise

    def stop(self) -> None:
        """Break off a response that is being made. A client that is still there is told that the server stops."""
        self._tasks.cancel_scope.cancel()

    async def _watch(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        # The same message also follows a response that was sent whole.
        if self.state not in (State.FINISHING, State.DONE):
            self.stop()

    async def _run(self, admit: Callable[[], Awaitable[Respond]]) -> None:
        watched = False
        try:
            try:
                respond = await admit()
                self._tasks.start_soon(self._watch)
                watched = True
                response = await respond()
                if isinstance(response, EventStream):
                    await self._send_stream(response)
                else:
                    await self._send_response(response)
            except ClientDisconnect:
                raise
            except BaseException as error:
                if not is_failure(error):
                    raise
                await self._fail(error)
            if watched:
                # Most servers report a disconnect as soon as the response is whole: to let the watch hear that costs
                # less than to cancel it.
                await checkpoint()
                if self._connected:
                    self.stop()
        except ClientDisconnect as lost:
            self._lose(lost)
            self.stop()

    async def _send_error(self, error: APIError) -> None:
        """Answer with an error. The request's body may still be on the way."""
        response = Response(body=self._encode_error(error), status=error.status, headers=[*error.headers.items()])
        if self._small_body and not isinstance(error, RequestTimeout):
            await self._discard_body(SMALL_BODY_WAIT, silence=SMALL_BODY_WAIT)
        if self.client is Client.SENDING:
            await self._send_response(response, end=False)
            await self._discard_body(LINGER, silence=LINGER_SILENCE)
            if self._connected:
                await self._finish(b"")
        elif self._connected:
            await self._send_response(response)

    async def _end(self) -> None:
        """The exchange was cancelled: the client left or had no more time, or `stop` was called."""
        if anyio.current_time() < self._tasks.cancel_scope.deadline:
            await self._break_off()
        elif self.state is State.IDLE:
            with anyio.move_on_after(self._write_timeout + LINGER), suppress(ClientDisconnect):
                await self._fail(RequestTimeout("The request's body came too slowly."))
        else:
            self.client = Client.STALLED

    async def _fail(self, error: BaseException) -> None:
        """Tell the client of an error, as far as the state allows."""
        public = self._public_error(error)
        if self.state is State.IDLE:
            await self._send_error(public)
        elif self.state is State.STREAMING and self._error_event is not None:
            await self._finish(self._error_event(public))
        else:
            # The server then closes the connection, which is all that can still be said.
            raise public

    async def _break_off(self) -> None:
        """Tell a client that waits for more that the server stops."""
        if self._connected and self.state is not State.DONE:
            with anyio.move_on_after(FAREWELL, shield=True), suppress(ClientDisconnect, APIError):
                await self._fail(Unavailable("The server is shutting down.", code="draining"))

    def _lose(self, lost: ClientDisconnect) -> None:
        self.client = Client.STALLED if isinstance(lost, WriteTimeout) else Client.DISCONNECTED

    async def _send_response(self, response: Response, *, end: bool = True) -> None:
        """Send a whole response. With `end` unset the client has all of it, and the server waits for `_finish`."""
        self.state, self.status = State.FINISHING, response.status
        headers = [*response.headers, *self._extra_headers()]
        if not end and self._http1 and CLOSE not in headers:
            headers.append(CLOSE)
        head = [
            (b"content-type", response.content_type),
            (b"content-length", b"%d" % len(response.body)),
            *encode_headers(headers),
        ]
        body = b"" if self._head_only else response.body
        messages: list[ASGIMessage] = [{"type": "http.response.start", "status": response.status, "headers": head}]
        for start in range(0, len(body) or 1, CHUNK_SIZE):
            more = start + CHUNK_SIZE < len(body) or not end
            messages.append({"type": "http.response.body", "body": body[start : start + CHUNK_SIZE], "more_body": more})
            await self._send(messages)
            messages.clear()
        self.state = State.DONE

    async def _send_stream(self, stream: EventStream) -> None:
        async def write(event: bytes) -> None:
            try:
                if self.state is State.IDLE:
                    await self._start(stream)
                await self._send_message({"type": "http.response.body", "body": event, "more_body": True})
            except OSError as error:
                # What ASGI asks of a server whose client left; hypercorn keeps silent instead.
                raise ClientDisconnect from error

        writer = EventWriter(write, interval=self._interval, timeout=self._write_timeout)
        self._tasks.start_soon(self._keep_alive, writer)
        async with aclosing(stream.events) as events:
            await writer.write_all(events)
        if self.state is State.IDLE:
            await write(b"")
        await self._finish(b"")

    async def _start(self, stream: EventStream) -> None:
        self.state, self.status = State.STARTING, 200
        headers = [*_STREAM_HEADERS, *encode_headers([*stream.headers(), *self._extra_headers()])]
        await self._send_message({"type": "http.response.start", "status": 200, "headers": headers})
        self.state, self._error_event = State.STREAMING, stream.error_event

    async def _keep_alive(self, writer: EventWriter) -> None:
        try:
            await writer.keep_alive()
        except ClientDisconnect as lost:
            self._lose(lost)
            self.stop()

    async def _finish(self, last: bytes) -> None:
        """Send the end of a stream, or of a response that was sent without one."""
        self.state = State.FINISHING
        await self._send([{"type": "http.response.body", "body": last, "more_body": False}])
        self.state = State.DONE

    async def _send(self, messages: Sequence[ASGIMessage]) -> None:
        """Send messages, for which the client has `write_timeout` seconds together."""
        self.expire_at(anyio.current_time() + self._write_timeout)
        try:
            for message in messages:
                await self._send_message(message)
        except OSError as error:
            raise ClientDisconnect from error
        self.expire_at(math.inf)

    async def _discard_body(self, seconds: float, *, silence: float) -> None:
        """Read what the client still sends, until its end, for at most `seconds`."""
        with anyio.move_on_after(seconds):
            while self.client is Client.SENDING:
                with anyio.move_on_after(silence) as chunk:
                    await self.receive()
                if chunk.cancelled_caught:
                    return


def is_failure(error: BaseException) -> bool:
    """Whether an exception is a failure of what was called, and no cancellation or end of the program. Libraries raise
    some that are no `Exception`, as Rust's panics are; one alone would end the server."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_failure, error.exceptions))
    return not isinstance(error, (anyio.get_cancelled_exc_class(), KeyboardInterrupt, GeneratorExit))


def encode_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Names and values as bytes; a character that a header cannot hold is percent-encoded."""
    return [(name.lower().encode("ascii"), _header_value(value)) for name, value in headers]


def _header_value(value: str) -> bytes:
    if value.isascii() and value.isprintable():
        return value.encode("ascii")
    return quote(value, safe=" !#$%&'()*+,-./:;<=>?@[]^_`{|}~").encode("ascii")
