"""Work that may take long, kept out of the event loop's way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

INLINE = 16 * 1024
"""Bytes that are worked on where the request is: they take less time than the way to a thread and back is worth. More
would hold up all other requests."""


async def aside(size: int, work: Callable[[], T]) -> T:
    """What `work` returns; in a thread when the `size` in bytes of what it works on is large."""
    if size <= INLINE:
        return work()
    return await in_thread(work)


async def in_thread(work: Callable[[], T], *, limiter: anyio.CapacityLimiter | None = None) -> T:
    """What `work` returns in a thread, one of those that `limiter` allows.

    An error comes out of the thread as a value. As an error it would be kept by what anyio waits for, and with it
    everything that was worked on, until the collector of garbage comes.
    """

    def caught() -> tuple[T, None] | tuple[None, Exception]:
        try:
            return work(), None
        except Exception as error:  # noqa: BLE001
            return None, error

    outcome = await anyio.to_thread.run_sync(caught, limiter=limiter)
    if outcome[1] is None:
        return outcome[0]
    try:
        raise outcome[1]
    finally:
        # Its traceback has this frame.
        del outcome
