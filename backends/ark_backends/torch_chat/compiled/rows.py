"""What is computed of one row by itself, a vector at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from ark_backends.torch_chat.compiled.simd import (
    BYTES,
    F32,
    FLOATS,
    I16,
    I32,
    I64,
    INTEGERS,
    LANES,
    VECTOR,
    absolute,
    call,
    exponential,
    floats,
    instruction,
    larger,
    load,
    loop,
    multiply_add,
    reduced,
    rounded,
    spread,
    store,
)
from ark_backends.torch_chat.compiled.tables import GROUP

TINY = 1e-30
"""Stands for the largest magnitude of a group that is all zero."""


def _quantize(b: Any, x: Any, groups: Any, steps: Any, factors: Any, starts: Any) -> None:
    turn, _, again = loop(b, groups, I64(1), [])
    place = b.add(x, b.mul(turn, I64(4 * GROUP)))
    parts = [load(b, b.add(place, I64(VECTOR * part)), FLOATS) for part in range(GROUP // LANES)]
    sizes = [absolute(b, part) for part in parts]
    finite = [b.fcmp_ordered("<", size, floats(float("inf"))) for size in sizes]
    whole = b.icmp_unsigned("==", b.bitcast(b.and_(*finite), I16), I16(0xFFFF))
    largest = reduced(b, larger(b, *sizes), lambda one, other: larger(b, one, other))
    largest = b.select(b.fcmp_ordered(">", largest, F32(TINY)), largest, F32(TINY))
    inverse = spread(b, b.fdiv(F32(127.0), largest))
    # What is not finite has no place in 8 bits, and must not be lost in them: the factor carries it.
    scaled = [b.select(whole, b.fmul(part, inverse), floats(0.0)) for part in parts]
    numbers = [b.fptosi(rounded(b, part), INTEGERS) for part in scaled]
    total = reduced(b, b.add(*numbers), b.add)
    for part, number in enumerate(numbers):
        target = b.add(b.add(steps, b.mul(turn, I64(GROUP))), I64(LANES * part))
        store(b, b.trunc(number, BYTES), target)
    mark = b.mul(turn, I64(4))
    store(b, b.select(whole, b.fdiv(largest, F32(127.0)), F32(float("nan"))), b.add(factors, mark))
    store(b, b.mul(total, I32(-128)), b.add(starts, mark))
    again([])


def _normalise(*, add: bool) -> Callable[..., None]:
    def emit(b: Any, x: Any, gain: Any, vectors: Any, width: Any, epsilon: Any, out: Any) -> None:
        turn, (total,), again = loop(b, vectors, I64(1), [floats(0.0)])
        part = load(b, b.add(x, b.mul(turn, I64(VECTOR))), FLOATS)
        total = multiply_add(b, part, part, total)
        again([total])
        mean = b.fadd(b.fdiv(reduced(b, total, b.fadd), width), epsilon)
        norm = spread(b, b.fdiv(F32(1.0), call(b, "llvm.sqrt.f32", F32, [mean])))
        turn, _, again = loop(b, vectors, I64(1), [])
        across = b.mul(turn, I64(VECTOR))
        part = b.fmul(load(b, b.add(x, across), FLOATS), norm)
        part = b.fmul(part, load(b, b.add(gain, across), FLOATS))
        target = b.add(out, across)
        store(b, b.fadd(load(b, target, FLOATS), part) if add else part, target)
        again([])

    return emit


def _gate(*, gelu: bool) -> Callable[..., None]:
    def emit(b: Any, gates: Any, ups: Any, out: Any) -> None:
        x, up = load(b, gates, FLOATS), load(b, ups, FLOATS)
        power = x
        if gelu:
            # x / (1 + exp(-2 z)) is x / 2 * (1 + tanh(z)).
            cube = b.fmul(b.fmul(b.fmul(x, x), x), floats(0.044715))
            power = b.fmul(b.fadd(x, cube), floats(2 * 0.7978845608028654))
        below = b.fadd(floats(1.0), exponential(b, b.fsub(floats(0.0), power)))
        store(b, b.fmul(b.fdiv(x, below), up), out)

    return emit


def _rotate(b: Any, twice: Any, head_dim: Any, cosine: Any, sine: Any, scale: Any, out: Any) -> None:
    half, factor = b.mul(head_dim, I64(2)), spread(b, scale)
    turn, _, again = loop(b, b.mul(head_dim, I64(4)), I64(VECTOR), [])
    place = b.add(twice, turn)
    one, other = load(b, place, FLOATS), load(b, b.add(place, half), FLOATS)
    one = b.fmul(one, load(b, b.add(cosine, turn), FLOATS))
    other = b.fmul(other, load(b, b.add(sine, turn), FLOATS))
    store(b, b.fmul(b.fadd(one, other), factor), b.add(out, turn))
    again([])


quantize = instruction(5, _quantize)
"""So many groups of a row become signed bytes, each group with the factor of its steps, and with what its sums begin
at: the weights have 128 added to them. Arguments: the row, groups; steps, factors and beginnings."""

_NORMS = [*[types.int64] * 3, types.float32, types.float32, types.int64]

normalise = instruction(6, _normalise(add=False), types.void, _NORMS)
"""RMS normalisation. Arguments: a row, gains, vectors; by how many the squares are divided, epsilon; the result."""

add_normalised = instruction(6, _normalise(add=True), types.void, _NORMS)
"""The same, added to what stands there."""

silu_gate, gelu_gate = instruction(3, _gate(gelu=False)), instruction(3, _gate(gelu=True))
"""One vector of gates, activated, times one of what they let through."""

rotate = instruction(6, _rotate, types.void, [*[types.int64] * 4, types.float32, types.int64])
"""A query or key by its position. Arguments: itself twice, as its halves change places; its numbers; cosines and sines;
what the result is multiplied by; the result."""
