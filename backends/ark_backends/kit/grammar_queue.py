"""Whose grammar is compiled next: simple ones at once, others in turns of their owners."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio

from ark.concurrency import Places, run_in_thread
from ark.engines.chat import Grammar

if TYPE_CHECKING:
    from ark_backends.kit.grammar import Grammars, Matcher

T = TypeVar("T")

COMPILING = 2
"""Grammars that are tried out at the same time, by one owner one less: another one need not wait for the first."""


class Left(Exception):
    """Nobody waits for the grammar any more."""


class GrammarQueue:
    """Compiles grammars in threads, in fair turns. Used on one event loop."""

    def __init__(self, grammars: Grammars) -> None:
        self._grammars = grammars
        self._places = Places(COMPILING)

    def close(self) -> None:
        """End the child processes."""
        self._grammars.close()

    async def compile(self, grammar: Grammar, owner: str) -> Matcher:
        """What `Grammars.compile` says. Cancelled, it leaves the queue, or ends the child process that tries it out."""
        matcher = await run_in_thread(partial(self._grammars.compile_quickly, grammar, owner=owner))
        if matcher is not None:
            return matcher
        async with self._places.place(owner):
            return await _until_left(partial(self._grammars.compile, grammar, owner=owner))


async def _until_left(work: Callable[..., T]) -> T:
    """What `work` returns or raises in a thread. Its `check` raises Left there when the caller is cancelled, who waits
    for its end all the same: until then the place is taken."""
    left, done = threading.Event(), anyio.Event()
    outcome: list[T | Exception] = []

    def check() -> None:
        if left.is_set():
            raise Left

    async def run() -> None:
        with anyio.CancelScope(shield=True):
            try:
                outcome.append(await run_in_thread(partial(work, check=check)))
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                outcome.append(error)
        done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        try:
            await done.wait()
        finally:
            left.set()
    found = outcome.pop()
    if isinstance(found, Exception):
        try:
            raise found
        finally:
            del found  # its traceback has this frame
    return found
