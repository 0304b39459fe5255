"""Threads that engines compute on, and their numbers. This module imports torch only where it is used."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_setting = threading.Lock()
_starting = threading.Lock()


def run_on_own_thread(work: Callable[[], T], *, stack_size: int = 0) -> T:
    """Return what `work` returns, or raise what it raises, on a thread that is gone afterwards.

    `stack_size` is the size of its stack in bytes; 0 is what the system gives every thread.

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

    thread = threading.Thread(target=run, name="ark-own-thread", daemon=True)
    with _starting:
        # The size holds for every thread that starts now: another one gets more than it needs.
        before = threading.stack_size(stack_size) if stack_size else None
        try:
            thread.start()
        finally:
            if before is not None:
                threading.stack_size(before)
    thread.join()
    if problems:
        raise problems[0]
    return found[0]


def set_num_threads(count: int | None) -> None:
    """Set the number of CPU threads that torch computes with on the calling thread; None leaves it.

    torch would use it on threads that begin later as well, and so for the engines of models that are opened later.
    """
    import torch  # noqa: PLC0415

    if count is None:
        return

    def set_for_all(number: int) -> None:
        torch.set_num_threads(number)
        # A thread takes the number of all at its first use of torch, which this may be.
        torch.get_num_threads()

    with _setting:
        # A new thread has the number of all.
        common = run_on_own_thread(torch.get_num_threads)
        set_for_all(count)
        run_on_own_thread(lambda: set_for_all(common))
