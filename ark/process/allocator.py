"""The process' heap: when what is freed in it goes back to the system."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Parameters of glibc's `mallopt`."""

BLOCK = 32 << 20
"""Bytes from which a block is the system's own, and goes back when it is freed: the most that glibc takes."""

KEPT = 32 << 20
"""Free bytes that may stand at the end of a heap, which `trim` reaches in the first one only."""

ARENAS = 2
"""Heaps of the process. By itself glibc makes up to eight for each core, and what one thread has freed in its own
serves no other: with several engines that is some hundred MB, and grows."""

OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables by which somebody has chosen the thresholds."""

OWN_ARENAS = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
"""And the number of heaps."""


def _find(name: str) -> Callable[..., int] | None:
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        # Not glibc.
        return None
    return function


_trim, _mallopt = _find("malloc_trim"), _find("mallopt")


def tune_allocator() -> None:
    """Keep what is freed until `trim`, for all threads, where the C library can and nobody has set that already.

    The tensors of a step are some megabytes, and come and go by the hundred. By itself glibc returns each to the
    system, which fills the next one with zeros page by page: that can take longer than what is computed in it.
    """
    if _mallopt is None or _trim is None:
        return
    if not any(name in os.environ for name in OWN):
        _mallopt(M_MMAP_THRESHOLD, BLOCK)
        _mallopt(M_TRIM_THRESHOLD, KEPT)
    if not any(name in os.environ for name in OWN_ARENAS):
        _mallopt(M_ARENA_MAX, ARENAS)


def trim() -> None:
    """Return the free pages of the heap to the system, where the C library can: glibc keeps them otherwise, and what
    comes and goes in many sizes, as the state of conversations does, leaves ever more of them between what is used.

    Takes some milliseconds for each 10 MB, on a busy machine more, without the interpreter's lock: call it in a thread,
    and while little is computed, for what is computed next has to take it again.
    """
    if _trim is not None:
        _trim(0)
