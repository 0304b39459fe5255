"""Steps of single tokens as one compiled function, for models in 8 bits on CPUs that multiply bytes.

A step of few tokens costs torch more in calls than in arithmetic. numba compiles one function for all of it; where
numba is not installed, or the CPU or the model is not one for it, torch computes as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from ark_backends.torch_chat.attention import Piece
from ark_backends.torch_chat.decoder import Decoder
from ark_backends.torch_chat.kv import KVSpec
from ark_backends.torch_chat.linear import FloatLinear

if TYPE_CHECKING:
    from ark_backends.torch_chat.compiled.steps import Steps

ALIGNED = 64
"""What the inputs of linear layers have to be a multiple of."""


def unable(decoder: Decoder, spec: KVSpec) -> str | None:
    """Why a model whose linear layers are going to be in 8 bits cannot be computed here; None where it can."""
    try:
        from ark_backends.torch_chat.compiled import simd  # noqa: PLC0415 - it imports numba
    except ImportError as error:
        return f"numba cannot be used ({error})"
    if not simd.WIDTH:
        return "this CPU lacks the instructions"
    if spec.dtype is not torch.float32 or spec.head_dim % (simd.PAIR * simd.LANES):
        return f"it is not made for heads of {spec.head_dim} numbers"
    for name, linear, _ in decoder.linears():
        if not isinstance(linear, FloatLinear) or linear.weight.dtype not in {torch.float32, torch.bfloat16}:
            return f"it is not made for the weights of {name}"
        outputs, inputs = linear.weight.shape
        if inputs % ALIGNED or outputs < simd.LANES:
            return f"it is not made for layers of {inputs} to {outputs} numbers ({name})"
    return None


def compile_steps(
    decoder: Decoder, spec: KVSpec, threads: int, usual: Callable[[Sequence[Piece], Sequence[int]], torch.Tensor]
) -> Steps | None:
    """What computes the steps of a decoder that `unable` had nothing against, whose int8 layers keep their steps.

    None where it is no faster than the `usual` pass of pieces, which gives the logits of those wanted, or wrong.
    """
    # Only here, because they import numba.
    from ark_backends.torch_chat.compiled.steps import Steps  # noqa: PLC0415
    from ark_backends.torch_chat.compiled.trial import is_better  # noqa: PLC0415

    made = Steps(decoder, spec, threads)
    return made if is_better(made, usual, spec) else None
