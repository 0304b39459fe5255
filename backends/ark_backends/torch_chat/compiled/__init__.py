"""All layers of a decoder as one compiled function, with one order of every sum.

The logits of a token are the same bits whatever is cached, however its prompt was cut into pieces, whatever runs beside
it, and with any number of threads. numba compiles the function; where it is not installed, or the CPU or the model is
not one for it, torch computes, and promises less.
"""

from __future__ import annotations

from typing import Any

import torch

from ark_backends.torch_chat.kv import KVSpec
from ark_backends.torch_chat.stored import weight_type
from ark_backends.torch_chat.structure import Structure

LANES = 16
"""What the size of a head has to be a multiple of; so many keys of a head stand together."""

TYPES = (torch.float32, torch.bfloat16)
"""Of weights."""


class NotUsed(Exception):
    """They compute something else than the model, or cannot be compiled; the message says which."""


def unable() -> str | None:
    """Why nothing can be computed by compiled kernels on this machine; None where it can."""
    try:
        from ark_backends.torch_chat.compiled import simd  # noqa: PLC0415 - it imports numba
    except Exception as error:  # noqa: BLE001 - it loads a library of its own, which may fail in any way
        return f"numba cannot be used ({error})"
    return None if simd.WIDTH else "this CPU lacks the instructions"


def unfit(model: Any, spec: KVSpec) -> str | None:
    """Why a loaded model cannot be computed by them; None where it can."""
    if not Structure.fits(model):
        return "they are not made for its architecture"
    if spec.group is None or spec.head_dim % LANES:
        return f"they are not made for heads of {spec.head_dim} numbers"
    kinds = {weight_type(module) for part in Structure(model).linears() for module in part.modules}
    strange = kinds - set(TYPES)
    return f"they are not made for weights in {strange.pop()}" if strange else unable()
