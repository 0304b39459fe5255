"""Memory of a server process: glibc's allocator and Python's garbage collector."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Parameters of glibc's `mallopt`."""
THRESHOLD = 32 << 20
"""Bytes that are reused and not unmapped: the most that glibc takes."""
ARENAS = 2
"""Heaps. Glibc makes up to eight for each core, and what one thread freed in its own serves no other: with several
engines that is some hundred MB, and grows."""
THRESHOLD_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
ARENA_VARIABLES = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
GC_THRESHOLD = 20_000
"""New objects that start a collection; Python's default is 700."""


def _find(name: str) -> Callable[..., int] | None:
    """A function of glibc, None in another C library."""
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return function


_malloc_trim, _mallopt = _find("malloc_trim"), _find("mallopt")


def tune_allocator() -> None:
    """Raise glibc's trim thresholds, unless the environment already sets them, so that freed tensor memory is reused
    instead of being returned to the kernel after every step: zeroing it again can take longer than the step."""
    if _mallopt is None or _malloc_trim is None:
        return
    if not any(name in os.environ for name in THRESHOLD_VARIABLES):
        _mallopt(M_MMAP_THRESHOLD, THRESHOLD)
        _mallopt(M_TRIM_THRESHOLD, THRESHOLD)
    if not any(name in os.environ for name in ARENA_VARIABLES):
        _mallopt(M_ARENA_MAX, ARENAS)


def trim() -> None:
    """Return the heap's free pages to the kernel. Takes some milliseconds for each 10 MB, without the interpreter lock:
    call it in a thread while little is computed."""
    if _malloc_trim is not None:
        _malloc_trim(0)


def relax_gc() -> None:
    """Collect garbage seldom. Requests leave none, connections little, and imports make half a million objects that
    would be searched again and again: a start takes a seventh less time so."""
    gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])


def freeze_gc() -> None:
    """Collect once more, and exclude what is there from later collections, which would take a quarter of a second."""
    gc.collect()
    gc.freeze()
