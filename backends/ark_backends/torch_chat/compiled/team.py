"""Threads that run one compiled function together."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeAlias

Task: TypeAlias = tuple[Callable[..., Any], tuple[Any, ...], Any]


class Team:
    """So many threads, of which the calling one is the first. The others end with this object."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        weakref.finalize(self, _dismiss, self._tasks, threads - 1).atexit = False
        for number in range(1, threads):
            helper = threading.Thread(target=_help, args=(self._tasks,), name=f"ark-step-{number}", daemon=True)
            helper.start()
            _helpers[helper] = self._tasks

    def run(self, function: Callable[..., Any], *arguments: Any, held: Any = None) -> None:
        """Call a function on each thread, with its number as the last argument. When the calling thread is done, this
        returns: the function sees to it that all is done then. A thread that comes late still looks at what is `held`.
        """
        for thread in range(1, self.threads):
            self._tasks.put((function, (*arguments, thread), held))
        function(*arguments, 0)


_helpers: dict[threading.Thread, SimpleQueue[Task | None]] = {}
"""Those that have not ended, and where each finds its tasks."""


def _help(tasks: SimpleQueue[Task | None]) -> None:
    while (task := tasks.get()) is not None:
        function, arguments, held = task
        function(*arguments)
        # Nothing of a model is held while there is nothing to do.
        del task, function, arguments, held
    _helpers.pop(threading.current_thread(), None)


def _dismiss(tasks: SimpleQueue[Task | None], helpers: int) -> None:
    # Nobody waits for them here: garbage is collected on any thread, in the middle of whatever it does.
    for _ in range(helpers):
        tasks.put(None)


@atexit.register
def _end() -> None:
    """Wait for all of them: one that came out of compiled code while the interpreter ends would abort the process."""
    ending = list(_helpers.items())
    for _, tasks in ending:
        tasks.put(None)
    for helper, _ in ending:
        helper.join()
