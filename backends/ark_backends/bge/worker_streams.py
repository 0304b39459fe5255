"""Parts of a batch side by side, each on a CPU thread of its own.

Threads that share an operation wait for each other at its end, hundreds of times in a batch, and where other programs
run, all wait for the slowest. Threads with rows of their own meet once, at the end of the batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ark_backends.kit.threads import run_on_own_thread, set_num_threads

T = TypeVar("T")
R = TypeVar("R")

MIN_TOKENS = 128
"""The fewest tokens of a part, or of a batch that several threads share: with fewer, the overhead of the layers exceeds
the work on the tokens."""

UNEVEN = 1.25
"""How much longer than the mean the longest part may be. Beyond that, threads idle longer than they would wait."""


def split_evenly(lengths: Sequence[int], count: int) -> list[list[int]] | None:
    """The ascending indices of `count` parts with about as many tokens each; None where that cannot be."""
    if sum(lengths) < MIN_TOKENS * count:
        return None
    parts: list[list[int]] = [[] for _ in range(count)]
    tokens = [0] * count
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        least = tokens.index(min(tokens))
        parts[least].append(index)
        tokens[least] += lengths[index]
    if max(tokens) * count > UNEVEN * sum(tokens):
        return None
    return [sorted(part) for part in parts]


class WorkerStreams:
    """Threads on each of which torch computes alone. Used on one thread."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="ark-worker")
        everyone = threading.Barrier(count)

        def begin() -> None:
            set_num_threads(1)
            everyone.wait()

        for begun in [self._pool.submit(begin) for _ in range(count)]:
            begun.result()

    def map(self, work: Callable[[T], list[R]], parts: Sequence[T]) -> list[list[R]]:
        """The results of `work` for each part, in order. All have ended when it returns or raises."""
        started = [self._pool.submit(work, part) for part in parts]
        problems = [problem for one in started if (problem := one.exception()) is not None]
        if problems:
            raise problems[0]
        return [one.result() for one in started]

    def together(self, work: Callable[[], R]) -> R:
        """The result of `work` on a thread whose operations as many threads share as there are streams."""

        def run() -> R:
            set_num_threads(self.count)
            return work()

        return run_on_own_thread(run)

    def close(self) -> None:
        self._pool.shutdown()
