"""What libraries of the engines read from the environment when they are loaded, set here unless somebody has.

It has to be there before torch is imported, and so is set when this package is.
"""

from __future__ import annotations

import os
from pathlib import Path

from ark.engines import machine

KERNELS = "256"
"""How many kernels oneDNN and torch keep, each. They keep one of about half a megabyte for every shape of a product,
and 1024 of them: a server that meets ever more shapes would grow for hours. Making one takes a millisecond."""

SPINS = "10000"
"""How often GNU's OpenMP looks for work before its threads sleep, some 0.2 ms. Its own choice is 300,000: after every
operation of torch a core would be busy for milliseconds that compiled steps, the server and its clients have use for.
Operations of one forward pass follow each other sooner than that."""


def set_defaults(root: Path = machine.ROOT) -> None:
    """Set what nobody has set. `root` is where the file system begins."""
    if "DNNL_PRIMITIVE_CACHE_CAPACITY" not in os.environ:  # oneDNN's older name
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)
    os.environ.setdefault("LRU_CACHE_CAPACITY", KERNELS)
    if "OMP_WAIT_POLICY" not in os.environ:  # which says the same in other words
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    threads = machine.processors(root)
    if threads < machine.bound():
        # By itself OpenMP takes all processors of the machine whatever the quota of a container is: of 64 threads that
        # share the time of 4 processors some are stopped in every operation, and all others wait for them.
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
