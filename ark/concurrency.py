"""Work that may take long, kept off the event loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ark.http.threads import run_in_thread

__all__ = ["run_in_thread", "run_in_thread_if_large"]

T = TypeVar("T")

INLINE = 16 * 1024
"""Bytes that take less time to work on than a thread is worth. More would hold up all other requests."""


async def run_in_thread_if_large(size: int, work: Callable[[], T]) -> T:
    """What `work` returns; in a thread when the `size` in bytes of what it works on is large."""
    return work() if size <= INLINE else await run_in_thread(work)
