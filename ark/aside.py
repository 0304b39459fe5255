"""Work that may take long, kept out of the event loop's way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio.to_thread

T = TypeVar("T")

INLINE = 16 * 1024
"""Bytes that are worked on where the request is: they take less time than the way to a thread and back is worth. More
would hold up all other requests."""


async def aside(size: int, work: Callable[[], T]) -> T:
    """What `work` returns; in a thread when the `size` in bytes of what it works on is large."""
    if size <= INLINE:
        return work()
    return await anyio.to_thread.run_sync(work)
