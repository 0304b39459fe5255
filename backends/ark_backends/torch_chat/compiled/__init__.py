"""Steps of single tokens as one compiled function, for models in 8 bits on CPUs that multiply bytes.

A step of few tokens costs torch more in calls than in arithmetic. numba compiles one function for all of it; where
numba is not installed, or the CPU or the model is not one for it, torch computes as before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from ark_backends.torch_chat.attention import Piece
from ark_backends.torch_chat.decoder import Decoder
from ark_backends.torch_chat.kv import KVSpec
from ark_backends.torch_chat.linear import FloatLinear, Linear

if TYPE_CHECKING:
    from ark_backends.torch_chat.compiled.steps import Steps

log = logging.getLogger("ark.torch_chat")

ALIGNED = 64
"""What the inputs of linear layers have to be a multiple of."""


class NotUsed(Exception):
    """Steps are left to torch; the message says why."""


def unable(decoder: Decoder | None, spec: KVSpec) -> str | None:
    """Why a model whose linear layers are going to be in 8 bits cannot be computed here; None where it can."""
    if decoder is None:
        return "the model is none of the fast pass"
    try:
        from ark_backends.torch_chat.compiled import simd  # noqa: PLC0415 - it imports numba
    except Exception as error:  # noqa: BLE001 - it loads a library of its own, which may fail in any way
        return f"numba cannot be used ({error})"
    if not simd.WIDTH:
        return "this CPU lacks the instructions"
    if spec.dtype is not torch.float32 or spec.head_dim % (simd.PAIR * simd.LANES):
        return f"they are not made for heads of {spec.head_dim} numbers"
    unfit = [name for name, linear, _ in decoder.linears() if not _fits(linear, simd.LANES)]
    return f"they are not made for the weights of {unfit[0]}" if unfit else None


def _fits(linear: Linear, least: int) -> bool:
    if not isinstance(linear, FloatLinear) or linear.weight.dtype not in {torch.float32, torch.bfloat16}:
        return False
    outputs, inputs = linear.weight.shape
    return bool(outputs >= least and inputs % ALIGNED == 0)


def compile_steps(
    decoder: Decoder, spec: KVSpec, threads: int, usual: Callable[[Sequence[Piece], Sequence[int]], torch.Tensor]
) -> Steps:
    """What computes the steps of a decoder that `unable` had nothing against, whose int8 layers keep their steps.

    Raises NotUsed where it cannot be compiled, or is wrong, or no faster than the `usual` pass of pieces, which gives
    the logits of those wanted.
    """
    try:
        # Only here, because they import numba.
        from ark_backends.torch_chat.compiled.steps import Steps  # noqa: PLC0415
        from ark_backends.torch_chat.compiled.trial import objection  # noqa: PLC0415

        made = Steps(decoder, spec, threads)
        reason = objection(made, usual, spec)
    except Exception as error:  # a compiler may fail in any way, and its next version in others
        log.exception("steps cannot be compiled")
        raise NotUsed("they cannot be compiled") from error
    if reason is not None:
        raise NotUsed(reason)
    return made
