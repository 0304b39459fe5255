"""Clients that together send every recording once, and what they measure."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One run."""

    speed: float
    """Seconds of audio transcribed per second: the inverse of the real-time factor."""
    first: float
    """Seconds from asking to the first segment, the median."""
    seconds: float


def closed(ask: Callable[[int], float], recordings: int, clients: int, sound: float) -> Result:
    """`ask` sends a recording and returns the seconds to its first segment; `sound` is the length of all recordings."""
    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        firsts = list(pool.map(ask, range(recordings)))
    seconds = time.perf_counter() - started
    return Result(sound / seconds, statistics.median(firsts), seconds)
