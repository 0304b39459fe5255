"""The process' heap: what was freed in it, given back to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Callable


def _find_trim() -> Callable[[int], int] | None:
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        # Not glibc.
        return None
    return trim


_trim = _find_trim()


def give_back() -> None:
    """Return the free pages of the heap to the system, where the C library can: glibc keeps them otherwise, and what
    comes and goes in many sizes, as the state of conversations does, leaves ever more of them between what is used.

    Takes some milliseconds for each 10 MB, on a busy machine more, without the interpreter's lock: call it in a thread.
    """
    if _trim is not None:
        _trim(0)
