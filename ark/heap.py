"""The process' heap: when what is freed in it goes back to the system."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""

BLOCK = 32 << 20
"""Bytes from which a block is the system's own, and goes back when it is freed: the most that glibc takes."""

KEPT = 32 << 20
"""Free bytes that may stand at the end of a heap. Each thread that computes may have one of its own, whose end
`give_back` does not reach."""

OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")
"""Variables by which somebody has chosen."""


def _find(name: str) -> Callable[..., int] | None:
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        # Not glibc.
        return None
    return function


_trim, _mallopt = _find("malloc_trim"), _find("mallopt")


def keep() -> None:
    """Keep what is freed until `give_back`, where the C library can and nobody has set its thresholds already.

    The tensors of a step are some megabytes, and come and go by the hundred. By itself glibc returns each to the
    system, which fills the next one with zeros page by page: that can take longer than what is computed in it.
    """
    if _mallopt is not None and _trim is not None and not any(name in os.environ for name in OWN):
        _mallopt(M_MMAP_THRESHOLD, BLOCK)
        _mallopt(M_TRIM_THRESHOLD, KEPT)


def give_back() -> None:
    """Return the free pages of the heap to the system, where the C library can: glibc keeps them otherwise, and what
    comes and goes in many sizes, as the state of conversations does, leaves ever more of them between what is used.

    Takes some milliseconds for each 10 MB, on a busy machine more, without the interpreter's lock: call it in a thread.
    """
    if _trim is not None:
        _trim(0)
