"""Blocking work in a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")


async def run_in_thread(work: Callable[[], T]) -> T:
    """What `work` returns in a thread.

    An exception leaves the thread as a value: raised in it, the future that anyio waits for would keep it, and all that
    was worked on, until the garbage collector runs.
    """

    def caught() -> tuple[T, None] | tuple[None, Exception]:
        try:
            return work(), None
        except Exception as error:  # noqa: BLE001
            return None, error

    outcome = await anyio.to_thread.run_sync(caught)
    if outcome[1] is None:
        return outcome[0]
    try:
        raise outcome[1]
    finally:
        # Its traceback has this frame.
        del outcome
