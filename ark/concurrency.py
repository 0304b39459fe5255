"""Work that may take long, kept off the event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import anyio
import anyio.from_thread
from anyio.lowlevel import current_token

from ark.http.threads import run_in_thread

__all__ = ["is_loading", "load_in_thread", "run_in_thread", "run_in_thread_if_large"]

T = TypeVar("T")

INLINE = 16 * 1024
"""Bytes that take less time to work on than a thread is worth. More would hold up all other requests."""


_LOADING = "ark-loading"


async def load_in_thread(work: Callable[[], T]) -> T:
    """What `work` returns on a thread of its own. Cancelled, it leaves the thread behind: nothing interrupts a library
    that loads a model, and a server that is stopped does not wait for it."""
    done, token = anyio.Event(), current_token()
    found: list[T] = []
    problems: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as problem:  # noqa: BLE001 - raised below
            problems.append(problem)
        with suppress(anyio.RunFinishedError):
            anyio.from_thread.run_sync(done.set, token=token)

    threading.Thread(target=run, name=_LOADING, daemon=True).start()
    await done.wait()
    if problems:
        raise problems.pop()
    return found.pop()


def is_loading() -> bool:
    """Whether a thread of `load_in_thread` still runs."""
    return any(thread.name == _LOADING for thread in threading.enumerate())


async def run_in_thread_if_large(size: int, work: Callable[[], T]) -> T:
    """What `work` returns; in a thread when the `size` in bytes of what it works on is large."""
    return work() if size <= INLINE else await run_in_thread(work)
