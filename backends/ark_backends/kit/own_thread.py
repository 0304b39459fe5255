"""Work on a thread of its own, which ends with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def apart(work: Callable[[], T]) -> T:
    """What `work` returns, or raises, on a thread that is gone afterwards.

    OpenMP keeps helpers for every thread that has computed, for as long as it lives. Where a process has more of them
    than the machine has processors, all sleep between two operations, and every operation waits until they wake: an
    engine's step then takes twice as long. Threads of a pool stay, so what loads a model is not to compute on one.
    """
    found: list[T] = []
    problems: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as problem:  # noqa: BLE001 - raised below, where the caller is
            problems.append(problem)

    thread = threading.Thread(target=run, name="ark-apart", daemon=True)
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
    return found[0]
