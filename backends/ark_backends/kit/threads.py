"""CPU threads of torch, a number for each thread of this process. Importing this module imports torch."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import torch


def compute_with(count: int) -> None:
    """The calling thread computes with so many, and so do those that begin to compute later."""
    torch.set_num_threads(count)
    # A thread takes the number of all at its first use of torch, which this may be.
    torch.get_num_threads()


@contextlib.contextmanager
def among_ourselves() -> Iterator[None]:
    """What `compute_with` says inside holds for the thread that says it, and not for those that come later: they would
    have it otherwise, and with it the engines of models that are opened later."""
    common: list[int] = []
    _elsewhere(lambda: common.append(torch.get_num_threads()))
    try:
        yield
    finally:
        _elsewhere(lambda: compute_with(common[0]))


def _elsewhere(work: Callable[[], None]) -> None:
    """On a thread that ends with it: a new one has the number of all, and keeps what it is told for itself as well."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
