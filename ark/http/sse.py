"""Server-sent events: their form, and the writer that fills silence with comments."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable

import anyio

from ark.http.request import ClientDisconnect

Send = Callable[[bytes], Awaitable[None]]

KEEP_ALIVE = b": keep-alive\n\n"
DONE = b"data: [DONE]\n\n"


def json_event(payload: bytes) -> bytes:
    """One event whose data is JSON, which has no line breaks."""
    return b"data: " + payload + b"\n\n"


_LINE_BREAK = re.compile(r"\r\n|\r|\n")


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

    `hand_over` gives a server an event, `send` a comment; the one may take any time, the other ends by itself when the
    client takes nothing. An event that is not taken in `timeout` seconds is given up.
    """

    def __init__(self, hand_over: Send, send: Send, *, interval: float, timeout: float) -> None:
        self._hand_over = hand_over
        self._send = send
        self._interval = interval
        self._timeout = timeout
        # An event is sent for every token: no turn of the event loop for a lock that is free, and no timer for each.
        self._lock = anyio.Lock(fast_acquire=True)
        self._last = time.monotonic()
        self._since: float | None = None
        """When the event was handed over that the server has not taken yet."""
        # A task that is cancelled leaves itself, and all that it knows, to the collector of garbage.
        self._ended = anyio.Event()
        self.unread = False
        """An event was given up."""

    async def write(self, event: bytes) -> None:
        async with self._lock:
            self._since = time.monotonic()
            await self._hand_over(event)
            self._last, self._since = time.monotonic(), None

    def end(self) -> None:
        """There are no more events."""
        self._ended.set()

    async def keep_alive(self, give_up: Callable[[], None]) -> None:
        """Write comments until the events have ended. `give_up` is called when the client takes nothing any more."""
        while True:
            now = time.monotonic()
            if self._since is not None and now - self._since >= self._timeout:
                self.unread = True
                give_up()
                return
            if self._since is None and now - self._last >= self._interval:
                try:
                    async with self._lock:
                        await self._send(KEEP_ALIVE)
                except ClientDisconnect:
                    give_up()
                    return
                self._last = time.monotonic()
            # A write that begins while this waits is given up late, by a quarter of its time at most.
            wait = self._interval if self._since is not None else max(0.0, self._last + self._interval - now)
            with anyio.move_on_after(min(wait, self._timeout / 4)):
                await self._ended.wait()
                return
