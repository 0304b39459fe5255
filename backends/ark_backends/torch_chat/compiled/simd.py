"""Vector instructions as functions for numba, which has none of its own.

They take addresses: what they read and write is contiguous memory, which a caller keeps alive. On x86 only, with
instructions that multiply bytes (VNNI).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I8, I32, I64, F32 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()


def _width() -> int:
    told = numba.config
    if told.CPU_NAME or told.CPU_FEATURES is not None or not told.ENABLE_AVX:
        # numba compiles for another CPU than this one, and LLVM ends the process at an instruction that it lacks.
        return 0
    features = llvmlite.binding.get_host_cpu_features()
    if features.get("avx512vnni") and features.get("avx512vl"):
        return 64
    return 32 if features.get("avxvnni") and features.get("fma") else 0


WIDTH = _width()
"""Bytes of a vector; 0 where this CPU has no instructions for this module."""

LANES = WIDTH // 4
"""Numbers of 32 bits in a vector."""

INTEGERS, FLOATS = ir.VectorType(I32, LANES or 8), ir.VectorType(F32, LANES or 8)


@intrinsic
def as_float(context: Any, bits: Any) -> Any:
    """The float32 with these bits (int32)."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], F32)

    return types.float32(types.int32), generate


@intrinsic
def fetch_add(context: Any, address: Any, count: Any) -> Any:
    """Add to the int64 at an address, and return what it was. No other thread comes between."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", builder.inttoptr(args[0], I64.as_pointer()), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def load_acquire(context: Any, address: Any) -> Any:
    """The int64 at an address; what another thread wrote before it is seen from here on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(args[0], I64.as_pointer()), "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def pause(context: Any) -> Any:
    """Let a thread on the same core have more of it for a moment."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.call(_function(builder, ir.VoidType(), [], "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def give_way(context: Any) -> Any:
    """Let another thread have this core, where one waits for it."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.call(_function(builder, I32, [], "sched_yield"), [])

    return types.int32(), generate


@intrinsic
def copy(context: Any, target: Any, source: Any, count: Any) -> Any:
    """Copy bytes from one address to another; the two do not overlap."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target, source = (builder.inttoptr(address, I8.as_pointer()) for address in args[:2])
        cgutils.raw_memcpy(builder, target, source, args[2], 1)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), generate


@intrinsic
def dots(context: Any, out: Any, weight: Any, stride: Any, x: Any, inputs: Any) -> Any:
    """`LANES` sums at `out` (int32): rows of `weight` (int8), `stride` bytes apart, times `x` (uint8).

    `inputs` are a multiple of `WIDTH`. Sums are exact while they fit 32 bits.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, weight, stride, x, inputs = args
        name = f"llvm.x86.avx512.vpdpbusd.{8 * WIDTH}"
        multiply = _function(builder, INTEGERS, [INTEGERS] * 3, name)
        rows = [builder.add(weight, builder.mul(stride, I64(row))) for row in range(LANES)]
        place, sums, again = _loop(builder, inputs, I64(WIDTH), [ir.Constant(INTEGERS, [0] * LANES)] * LANES)
        ours = _load(builder, builder.add(x, place), INTEGERS)
        sums = [
            builder.call(multiply, [total, ours, _load(builder, builder.add(row, place), INTEGERS)])
            for total, row in zip(sums, rows, strict=True)
        ]
        again(sums)
        _store(builder, _sums_of_lanes(builder, sums, builder.add), out)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


def _float_dots(bits: int) -> Any:
    @intrinsic
    def float_dots(context: Any, out: Any, weight: Any, stride: Any, last: Any, x: Any, inputs: Any) -> Any:
        """`LANES` sums at `out` (float32): rows of `weight`, `stride` bytes apart, times `x` (float32).

        `inputs` are a multiple of `LANES`. Instead of rows behind the one numbered `last` that one is read again.
        """

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out, weight, stride, last, x, inputs = args
            rows = []
            for row in range(LANES):
                there = builder.select(builder.icmp_signed("<", I64(row), last), I64(row), last)
                rows.append(builder.add(weight, builder.mul(stride, there)))
            place, sums, again = _loop(builder, inputs, I64(LANES), [ir.Constant(FLOATS, [0.0] * LANES)] * LANES)
            ours = _load(builder, builder.add(x, builder.mul(place, I64(4))), FLOATS)
            across = builder.mul(place, I64(bits // 8))
            weights = [_floats(builder, builder.add(row, across), bits) for row in rows]
            sums = [_multiply_add(builder, ours, row, total) for total, row in zip(sums, weights, strict=True)]
            again(sums)
            _store(builder, _sums_of_lanes(builder, sums, builder.fadd), out)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), generate

    return float_dots


float32_dots, bfloat16_dots = _float_dots(32), _float_dots(16)


PAIR = 2
"""Vectors of a value that `weigh` has in registers, for each query."""


def _weigher(queries: int) -> Any:
    @intrinsic
    def weigh(context: Any, out: Any, weights: Any, stride: Any, values: Any, count: Any, head_dim: Any) -> Any:
        """Add `count` values (head_dim) to what stands at `out` (queries, head_dim), each times its weight.

        The weights of a query are `stride` bytes behind those of the one before. All is float32; `head_dim` is a
        multiple of ``PAIR * LANES``.
        """

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out, weights, stride, values, count, head_dim = args
            size = builder.mul(head_dim, I64(4))
            across, _, further = _loop(builder, size, I64(PAIR * WIDTH), [])
            places = [
                builder.add(builder.add(out, builder.mul(size, I64(query))), builder.add(across, I64(WIDTH * part)))
                for query in range(queries)
                for part in range(PAIR)
            ]
            each, sums, again = _loop(builder, count, I64(1), [_load(builder, place, FLOATS) for place in places])
            row = builder.add(builder.add(values, across), builder.mul(size, each))
            parts = [_load(builder, builder.add(row, I64(WIDTH * part)), FLOATS) for part in range(PAIR)]
            added = []
            for query in range(queries):
                place = builder.add(builder.add(weights, builder.mul(stride, I64(query))), builder.mul(each, I64(4)))
                weight = _everywhere(builder, _load(builder, place, F32))
                added += [_multiply_add(builder, weight, parts[i], sums[PAIR * query + i]) for i in range(PAIR)]
            again(added)
            for place, total in zip(places, added, strict=True):
                _store(builder, total, place)
            further([])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), generate

    return weigh


weigh_1, weigh_2, weigh_3, weigh_4 = (_weigher(queries) for queries in (1, 2, 3, 4))


def _function(builder: Any, returns: Any, takes: Sequence[Any], name: str) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(returns, takes), name)


def _load(builder: Any, address: Any, kind: Any) -> Any:
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)


def _floats(builder: Any, address: Any, bits: int) -> Any:
    """A vector of float32, or of as many bfloat16, which are the upper halves of float32."""
    if bits == 32:
        return _load(builder, address, FLOATS)
    halves = _load(builder, address, ir.VectorType(ir.IntType(16), LANES))
    shifted = builder.shl(builder.zext(halves, INTEGERS), ir.Constant(INTEGERS, [16] * LANES))
    return builder.bitcast(shifted, FLOATS)


def _store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=1)


def _multiply_add(builder: Any, x: Any, y: Any, total: Any) -> Any:
    return builder.call(_function(builder, FLOATS, [FLOATS] * 3, f"llvm.fma.v{LANES}f32"), [x, y, total])


def _everywhere(builder: Any, number: Any) -> Any:
    single = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), number, I32(0))
    return builder.shuffle_vector(single, single, ir.Constant(INTEGERS, [0] * LANES))


def _loop(builder: Any, stop: Any, step: Any, first: list[Any]) -> tuple[Any, list[Any], Callable[[list[Any]], None]]:
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

    return place, values, again


def _sums_of_lanes(builder: Any, vectors: list[Any], add: Callable[[Any, Any], Any]) -> Any:
    """The vector of each one's sum: of `LANES` vectors one is left, by halves."""
    quarters = LANES // 4

    def halved(low: list[int], high: list[int]) -> list[Any]:
        masks = [ir.Constant(INTEGERS, places) for places in (low, high)]
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        return [add(*(builder.shuffle_vector(x, y, mask) for mask in masks)) for x, y in pairs]

    def in_quarters(*places: int) -> list[int]:
        return [4 * quarter + place for quarter in range(quarters) for place in places]

    def of_quarters(*places: int) -> list[int]:
        return [4 * place + lane for place in places for lane in range(4)]

    # First within the 128 bits that cheap instructions stay in, then across.
    n = LANES
    vectors = halved(in_quarters(0, n, 1, n + 1), in_quarters(2, n + 2, 3, n + 3))
    vectors = halved(in_quarters(0, 1, n, n + 1), in_quarters(2, 3, n + 2, n + 3))
    if quarters == 4:
        vectors = halved(of_quarters(0, 1, 4, 5), of_quarters(2, 3, 6, 7))
        vectors = halved(of_quarters(0, 2, 4, 6), of_quarters(1, 3, 5, 7))
    else:
        vectors = halved(of_quarters(0, 2), of_quarters(1, 3))
    return vectors[0]
