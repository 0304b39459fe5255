"""Defaults of environment variables that the engines' libraries read when they are loaded.

They have to be set before torch is imported, so importing this package sets them.
"""

from __future__ import annotations

import os
from pathlib import Path

from ark.engines import machine

KERNELS = "256"
"""Kernels that oneDNN and torch cache, each. A kernel takes about half a megabyte for every shape of a product, and by
default they cache 1024: a server that meets ever more shapes would grow for hours. Making one takes a millisecond."""

SPINS = "10000"
"""How often threads of GNU's OpenMP look for work before they sleep, about 0.2 ms. With its default of 300,000 a core
would spin for milliseconds after every operation of torch, which compiled steps, the server and its clients can use.
The operations of one forward pass follow each other sooner."""


def set_defaults(root: Path = machine.ROOT) -> None:
    """Set the variables that nobody has set. `root` is where the file system begins."""
    if "DNNL_PRIMITIVE_CACHE_CAPACITY" not in os.environ:  # oneDNN's older name
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)
    os.environ.setdefault("LRU_CACHE_CAPACITY", KERNELS)
    if "OMP_WAIT_POLICY" not in os.environ:  # sets the same thing
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    threads = machine.processors(root)
    if threads < machine.bound():
        # OpenMP ignores a container's quota: of 64 threads that share the time of 4 processors, some are stopped in
        # every operation, and all others wait for them.
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
