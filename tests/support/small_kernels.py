"""Two functions that are compiled in a moment, in the two ways in which kernels are.

`python -m small_kernels` prints what they compute.
"""

from __future__ import annotations

import ctypes

from ark_backends.torch_chat.compiled import cache
from ark_backends.torch_chat.compiled.simd import fetch_add


def add(counter: int, number: int) -> None:
    fetch_add(counter, number)


@cache.kept
def double(number: int) -> int:
    return 2 * number


def main() -> None:
    value = ctypes.c_int64(40)
    called = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64)(cache.address(add, "int64, int64"))
    called(ctypes.addressof(value), 2)
    try:
        doubled = double(4)
    except Exception:  # noqa: BLE001 - what cannot be read fails in many ways
        doubled = cache.again(double)(4)
    print(value.value, doubled)


if __name__ == "__main__":
    main()
