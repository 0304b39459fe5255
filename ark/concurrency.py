"""Work that may take long, kept off the event loop."""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Generic, TypeVar

import anyio
import anyio.from_thread
from anyio.lowlevel import RunVar, current_token

from ark.http.threads import run_in_thread

__all__ = ["Places", "Turns", "is_loading", "load_in_thread", "run_in_thread", "run_in_thread_if_large", "run_in_turn"]

T = TypeVar("T")

INLINE = 16 * 1024
"""Bytes that take less time to work on than a thread is worth. More would hold up all other requests."""


TURNS = max(2, (os.cpu_count() or 1) // 2)
"""Long pieces of work at the same time, of one client one less. They share the processors with the engines."""

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


working_for: ContextVar[str] = ContextVar("working_for", default="")
"""Whose turn `run_in_turn` takes: the client that the current request is from."""


async def run_in_thread_if_large(size: int, work: Callable[[], T]) -> T:
    """What `work` returns; in a thread, in turns of clients, when the `size` in bytes of what it works on is large."""
    return work() if size <= INLINE else await run_in_turn(work)


async def run_in_turn(work: Callable[[], T]) -> T:
    """What `work` returns in a thread. Clients take turns, so that one with many large requests does not get the
    processors and all the threads."""
    try:
        places = _places.get()
    except LookupError:
        places = Places(TURNS)
        _places.set(places)
    async with places.place(working_for.get()):
        return await run_in_thread(work)


class Turns(Generic[T]):
    """Places for work that takes long, given to owners in turns. One place is never the same owner's as all others, so
    another owner need not wait for the first. Used on one thread."""

    def __init__(self, count: int) -> None:
        """`count` is the number of places; a single one is anybody's."""
        self._count = count
        self._inside: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        """By owner; the one whose turn it is comes first."""

    def __len__(self) -> int:
        """Items that wait or have a place."""
        return self._inside.total() + sum(map(len, self._waiting.values()))

    def add(self, owner: str, item: T) -> None:
        self._waiting.setdefault(owner, deque()).append(item)

    def remove(self, owner: str, item: T) -> None:
        """Forget an item that waits."""
        self._waiting[owner].remove(item)
        if not self._waiting[owner]:
            del self._waiting[owner]

    def leave(self, owner: str) -> None:
        """Give one of an owner's places back."""
        self._inside[owner] -= 1
        self._inside += Counter()  # those without any are forgotten

    def next(self) -> T | None:
        """An item that has a place from now on; None where none can have one."""
        if self._inside.total() >= self._count:
            return None
        owner = next((owner for owner in self._waiting if self._inside[owner] < max(1, self._count - 1)), None)
        if owner is None:
            return None
        self._inside[owner] += 1
        waiting = self._waiting[owner]
        item = waiting.popleft()
        self._waiting.move_to_end(owner)
        if not waiting:
            del self._waiting[owner]
        return item


class Places:
    """Places for work that takes long, given to owners in turns. Used on one event loop."""

    def __init__(self, count: int) -> None:
        self._turns = Turns[anyio.Event](count)

    def __len__(self) -> int:
        """Those who wait or have one."""
        return len(self._turns)

    @asynccontextmanager
    async def place(self, owner: str) -> AsyncIterator[None]:
        """Wait for a place, and have it."""
        place = anyio.Event()
        self._turns.add(owner, place)
        self._give()
        try:
            await place.wait()
        except BaseException:
            if place.is_set():
                self._leave(owner)
            else:
                self._turns.remove(owner, place)
            raise
        try:
            yield
        finally:
            self._leave(owner)

    def _leave(self, owner: str) -> None:
        self._turns.leave(owner)
        self._give()

    def _give(self) -> None:
        """Hand out what is free."""
        while (place := self._turns.next()) is not None:
            place.set()


_places: RunVar[Places] = RunVar("places")
"""Of each event loop."""
