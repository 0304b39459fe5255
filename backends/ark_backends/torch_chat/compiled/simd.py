"""Vector instructions as functions for numba, which has none of its own.

A vector is 16 numbers of 32 bits on every machine: on AVX-512 one register, on AVX-VNNI two. So a sum has the same
order, and the same bits, on both. Nothing here may be reordered or contracted by the compiler: where a product and a
sum are to be one operation, it is written as one.

Functions take addresses: what they read and write is contiguous memory, which a caller keeps alive.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
"""Numbers of 32 bits in a vector."""

VECTOR = 4 * LANES
"""Bytes of a vector."""

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
HALF, F32 = ir.HalfType(), ir.FloatType()
BYTES, SHORTS, INTEGERS = (ir.VectorType(kind, LANES) for kind in (I8, I16, I32))
HALVES, FLOATS = ir.VectorType(HALF, LANES), ir.VectorType(F32, LANES)


def _width() -> int:
    told = numba.config
    if told.CPU_NAME or told.CPU_FEATURES is not None or not told.ENABLE_AVX:
        # numba compiles for another CPU than this one, and LLVM ends the process at an instruction that it lacks.
        return 0
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512vnni") and features.get("avx512vl"):
        return 64
    return 32 if features.get("avxvnni") and features.get("fma") and features.get("f16c") else 0


WIDTH = _width()
"""Bytes of a register; 0 where this CPU has no instructions for this module."""


# What LLVM's builder lacks.


def call(builder: Any, name: str, returns: Any, arguments: Sequence[Any]) -> Any:
    """A call of one of LLVM's own functions."""
    kind = ir.FunctionType(returns, [argument.type for argument in arguments])
    found = builder.module.globals.get(name)
    return builder.call(found or ir.Function(builder.module, kind, name), arguments)


def load(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)


def store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def at(builder: Any, address: Any, stride: Any, number: int) -> Any:
    """`address` plus so many strides."""
    return builder.add(address, builder.mul(stride, I64(number))) if number else address


def floats(number: float) -> Any:
    return ir.Constant(FLOATS, [number] * LANES)


def integers(number: int) -> Any:
    return ir.Constant(INTEGERS, [number] * LANES)


def spread(builder: Any, number: Any) -> Any:
    """A vector that has a number in every lane."""
    kind = ir.VectorType(number.type, LANES)
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), number, I32(0))
    return builder.shuffle_vector(single, single, integers(0))


def multiply_add(builder: Any, x: Any, y: Any, total: Any) -> Any:
    return call(builder, f"llvm.fma.v{LANES}f32", FLOATS, [x, y, total])


def absolute(builder: Any, x: Any) -> Any:
    return call(builder, f"llvm.fabs.v{LANES}f32", FLOATS, [x])


def rounded(builder: Any, x: Any) -> Any:
    return call(builder, f"llvm.rint.v{LANES}f32", FLOATS, [x])


def larger(builder: Any, x: Any, y: Any) -> Any:
    """The larger one in each lane; `y` where one is not a number."""
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


def reduced(builder: Any, vector: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """All lanes combined, always in the same order: halves, then quarters, and so on."""
    half = LANES // 2
    while half:
        places = [(lane + half) % LANES for lane in range(LANES)]
        other = builder.shuffle_vector(vector, vector, ir.Constant(INTEGERS, places))
        vector = combine(vector, other)
        half //= 2
    return builder.extract_element(vector, I32(0))


def multiply_bytes(builder: Any, total: Any, x: Any, y: Any) -> Any:
    """`total` (int32) plus, in each lane, four products of unsigned bytes of `x` and signed bytes of `y`."""
    if WIDTH == VECTOR:
        return call(builder, "llvm.x86.avx512.vpdpbusd.512", INTEGERS, [total, x, y])
    parts = []
    for places in (range(LANES // 2), range(LANES // 2, LANES)):
        mask = ir.Constant(ir.VectorType(I32, LANES // 2), list(places))
        halves = [builder.shuffle_vector(whole, whole, mask) for whole in (total, x, y)]
        parts.append(call(builder, "llvm.x86.avx512.vpdpbusd.256", ir.VectorType(I32, LANES // 2), halves))
    return builder.shuffle_vector(*parts, ir.Constant(INTEGERS, list(range(LANES))))


def exponential(builder: Any, x: Any) -> Any:
    """The exponential, as 2 to a whole number times 2 to the rest (the polynomial is that of Cephes' exp2f, by Stephen
    Moshier). What is smaller or larger than float32 holds is cut off near its ends; not a number stays what it is."""
    power = builder.fmul(x, floats(1.4426950408889634))
    for end, sign in ((-126.0, "<"), (126.0, ">")):
        power = builder.select(builder.fcmp_ordered(sign, power, floats(end)), floats(end), power)
    # What is not a number has no whole part; the rest keeps it.
    whole = builder.select(builder.fcmp_ordered("ord", power, power), rounded(builder, power), floats(0.0))
    rest = builder.fsub(power, whole)
    value = floats(1.535336188319500e-4)
    for coefficient in (
        1.339887440266574e-3,
        9.618437357674640e-3,
        5.550332471162809e-2,
        2.402264791363012e-1,
        6.931472028550421e-1,
        1.0,
    ):
        value = multiply_add(builder, value, rest, floats(coefficient))
    bits = builder.shl(builder.add(builder.fptosi(whole, INTEGERS), integers(127)), integers(23))
    return builder.fmul(value, builder.bitcast(bits, FLOATS))


def loop(builder: Any, stop: Any, step: Any, first: list[Any]) -> tuple[Any, list[Any], Callable[[list[Any]], None]]:
    """``for place in range(0, stop, step)``, run at least once, with values that each round hands to the next.

    Returns the place, the values of this round, and what ends the round with the next one's.
    """
    before = builder.block
    body = builder.append_basic_block("round")
    builder.branch(body)
    builder.position_at_end(body)
    place = builder.phi(I64)
    place.add_incoming(I64(0), before)
    values = []
    for value in first:
        phi = builder.phi(value.type)
        phi.add_incoming(value, before)
        values.append(phi)

    def again(following: list[Any]) -> None:
        further = builder.add(place, step)
        end = builder.append_basic_block("end")
        for phi, value in zip([place, *values], [further, *following], strict=True):
            phi.add_incoming(value, builder.block)
        builder.cbranch(builder.icmp_signed("<", further, stop), body, end)
        builder.position_at_end(end)

    return place, list(values), again


def instruction(
    takes: int, emit: Callable[..., Any], returns: Any = types.void, kinds: Sequence[Any] | None = None
) -> Any:
    """A function for numba: `emit` gets LLVM's builder and the arguments, int64 where `kinds` says nothing else."""
    signature = returns(*(kinds or [types.int64] * takes))

    def typed(context: Any, *arguments: Any) -> Any:
        return signature, _generator(emit, returns)

    return _named(takes, typed)


def instruction_of(takes: int, emits: dict[Any, Callable[..., Any]]) -> Any:
    """The same with one more argument, the first: its type says which of several it is, its value says nothing."""

    def typed(context: Any, kind: Any, *arguments: Any) -> Any:
        emit = emits[kind]
        signature = types.void(kind, *[types.int64] * takes)
        return signature, _generator(lambda builder, unused, *others: emit(builder, *others), types.void)

    return _named(takes + 1, typed)


def _generator(emit: Callable[..., Any], returns: Any) -> Callable[..., Any]:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        result = emit(builder, *arguments)
        return context.get_dummy_value() if returns is types.void else result

    return generate


def _named(takes: int, typed: Callable[..., Any]) -> Any:
    # numba asks for the names of all parameters.
    names = ["context", *(f"a{place}" for place in range(takes))]
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    typed.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return intrinsic(typed)


def _call_address(builder: Any, address: Any, *arguments: Any) -> None:
    kind = ir.FunctionType(ir.VoidType(), [argument.type for argument in arguments])
    builder.call(builder.inttoptr(address, kind.as_pointer()), arguments)


def caller(kinds: Sequence[Any]) -> Any:
    """What calls the function at an address, its first argument, with others of such types."""
    return instruction(len(kinds) + 1, _call_address, types.void, [types.int64, *kinds])


# Threads.


def _fetch_add(builder: Any, address: Any, count: Any) -> Any:
    return builder.atomic_rmw("add", builder.inttoptr(address, I64.as_pointer()), count, "seq_cst")


def _load_acquire(builder: Any, address: Any) -> Any:
    return builder.load_atomic(builder.inttoptr(address, I64.as_pointer()), "acquire", 8)


def _exact(builder: Any) -> None:
    place = builder.alloca(I32)
    builder.store(I32(0x1F80), place)
    call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), [builder.bitcast(place, I8.as_pointer())])


def _copy(builder: Any, target: Any, source: Any, count: Any) -> None:
    target, source = (builder.inttoptr(address, I8.as_pointer()) for address in (target, source))
    cgutils.raw_memcpy(builder, target, source, count, 1)


fetch_add = instruction(2, _fetch_add, types.int64)
"""Add to the int64 at an address, and return what it was. No other thread comes between."""

load_acquire = instruction(1, _load_acquire, types.int64)
"""The int64 at an address; what another thread wrote before it is seen from here on."""

pause = instruction(0, lambda builder: call(builder, "llvm.x86.sse2.pause", ir.VoidType(), []))
"""Let a thread on the same core have more of it for a moment."""

give_way = instruction(0, lambda builder: call(builder, "sched_yield", I32, []), types.int32)
"""Let another thread have this core, where one waits for it."""

round_as_usual = instruction(0, _exact)
"""To the nearest, with the smallest numbers kept, whatever the thread inherited from the one that started it."""


# Memory.

int_at = instruction(1, lambda builder, address: load(builder, address, I64), types.int64)

float_at = instruction(1, lambda builder, address: load(builder, address, F32), types.float32)

put_int = instruction(2, lambda builder, address, number: store(builder, number, address))

put_float = instruction(
    2, lambda builder, address, number: store(builder, number, address), types.void, [types.int64, types.float32]
)

copy = instruction(3, _copy)
"""Copy bytes to an address from another; the two do not overlap."""
