"""How threads share the tasks of a phase: each takes the next one, and waits at the end until all are done.

What counts is the address of an array (phases, COUNTERS) of int64, zeros at first, new for every pass: who comes late
looks at it, finds all done, and changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ark_backends.torch_chat.compiled.cache import compiled
from ark_backends.torch_chat.compiled.simd import fetch_add, give_way, load_acquire, pause

COUNTERS = 16
"""Numbers that a phase has for itself: two are used, each in a cache line of its own."""

PATIENCE = 2000
"""Looks at a counter before the core is left to others."""


def made(phases: int) -> Any:
    return np.zeros((phases, COUNTERS), dtype=np.int64)


@compiled
def take(counters: int, phase: int) -> Any:
    """The next task of a phase."""
    return fetch_add(counters + 8 * COUNTERS * phase, 1)


@compiled
def did(counters: int, phase: int) -> None:
    fetch_add(counters + 8 * (COUNTERS * phase + COUNTERS // 2), 1)


@compiled
def wait(counters: int, phase: int, tasks: int) -> None:
    """Until all tasks of a phase are done."""
    counter = counters + 8 * (COUNTERS * phase + COUNTERS // 2)
    looks = 0
    while load_acquire(counter) < tasks:
        looks += 1
        if looks < PATIENCE:
            pause()
        else:
            give_way()
