"""Server-sent events: how they are written, and the comments that keep a silent stream alive."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio

from ark.http.request import WriteTimeout

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"

_LINE_BREAK = re.compile(r"\r\n|\r|\n")


def json_event(payload: bytes) -> bytes:
    """One event whose data is JSON, which has no line breaks."""
    return b"data: " + payload + b"\n\n"


def text_event(text: str) -> bytes:
    """One event whose data is any text.

    A text with line breaks becomes several ``data:`` lines, which a client joins with line feeds again (a carriage
    return is a line break to SSE, and so arrives as a line feed). The one space after the colon is removed by the
    client, so a text that begins with a space keeps it.
    """
    lines = _LINE_BREAK.split(text)
    return ("".join(f"data: {line}\n" for line in lines) + "\n").encode("utf-8", "replace")


class EventWriter:
    """Writes events as they come, and a comment after each `interval` seconds of silence.

    `write` returns when the server has taken what it was given, which may be never: servers wait while the client reads
    nothing. `timeout` says for how many seconds. Run `keep_alive` beside `write_all`, and cancel both where one raises.
    """

    def __init__(self, write: Callable[[bytes], Awaitable[None]], *, interval: float, timeout: float) -> None:
        self._write = write
        self._interval = interval
        self._timeout = timeout
        self._last = time.monotonic()
        """When something was last written."""
        self._writing = False
        """The server has not taken the last event yet."""
        # An event is written for every token: no lock, which only a comment needs, and no timer for each.
        self._comment: anyio.Event | None = None
        """Set when the comment that is being written has been."""
        self._ended = anyio.Event()

    async def write_all(self, events: AsyncIterator[bytes]) -> None:
        """Write all events. No comment is being written when this returns or raises."""
        try:
            async for event in events:
                while self._comment is not None:
                    await self._comment.wait()
                self._last, self._writing = time.monotonic(), True
                await self._write(event)
                self._writing = False
        finally:
            # Not by cancelling `keep_alive`: a cancelled task is left to the garbage collector with all that it knows.
            self._ended.set()
            if self._comment is not None:
                await self._comment.wait()

    async def keep_alive(self) -> None:
        """Write comments until the events have ended. Raises WriteTimeout, and ClientDisconnect as `write` does."""
        while not self._ended.is_set():
            silence = time.monotonic() - self._last
            if self._writing and silence >= self._timeout:
                raise WriteTimeout
            if not self._writing and silence >= self._interval:
                await self._write_comment()
                silence = 0.0
            # A write that begins meanwhile is given up late, by a quarter of its time at most.
            wait = self._interval if self._writing else max(0.0, self._interval - silence)
            with anyio.move_on_after(min(wait, self._timeout / 4)):
                await self._ended.wait()

    async def _write_comment(self) -> None:
        self._comment = written = anyio.Event()
        with anyio.move_on_after(self._timeout) as scope:
            await self._write(KEEP_ALIVE)
        if scope.cancelled_caught:
            raise WriteTimeout
        self._last = time.monotonic()
        self._comment = None
        written.set()
