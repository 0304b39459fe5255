"""Work that may take long, kept out of the event loop's way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ark.http.threads import run_in_thread

__all__ = ["run_in_thread", "run_in_thread_if_large"]

T = TypeVar("T")

INLINE = 16 * 1024
"""Bytes that are worked on where the request is: they take less time than the way to a thread and back is worth. More
would hold up all other requests."""


async def run_in_thread_if_large(size: int, work: Callable[[], T]) -> T:
    """What `work` returns; in a thread when the `size` in bytes of what it works on is large."""
    if size <= INLINE:
        return work()
    return await run_in_thread(work)
