"""Products of rows with a weight, with one order of every sum.

A weight is stored in tiles of 16 outputs, and a vector holds one number for each of them. So an output is a sum that
no lane shares: over the inputs in their order or, in int8, over groups of 32 of them, whose own sums are whole numbers.
However many rows and tiles are computed together, by however many threads, an output has the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

from llvmlite import ir
from numba import types

from ark_backends.torch_chat.compiled.simd import (
    F32,
    FLOATS,
    HALVES,
    I8,
    I32,
    I64,
    INTEGERS,
    LANES,
    SHORTS,
    VECTOR,
    WIDTH,
    at,
    call,
    caller,
    floats,
    instruction_of,
    integers,
    load,
    loop,
    multiply_add,
    multiply_bytes,
    spread,
    store,
)
from ark_backends.torch_chat.compiled.tables import BFLOAT16, FLOAT32, GROUP, INT8

MANY = 24
"""Rows from which on arithmetic takes longer than reading the weight: then tiles of 6 rows and 2 x 16 outputs pay."""

AHEAD = 4096
"""Bytes by which a weight is asked for before it is needed; twice as many for a single row."""

GROUP_BYTES = {INT8: GROUP * LANES, FLOAT32: 4 * GROUP * LANES, BFLOAT16: 2 * GROUP * LANES}
"""Of a tile, for one group of inputs."""

UNROLLED = 8
"""Inputs of a round, where they are floats."""


def _tile(kind: int, rows: int, tiles: int) -> Callable[..., None]:
    """Emits the product of so many rows with so many tiles.

    Arguments: the weight, the scales of its groups (float16), groups; the rows, bytes from one to the next, the factors
    of their groups and what each sum begins at, bytes from one row's to the next; the biases; the outputs, bytes from
    one row's to the next, whether products are added to what stands there; bytes by which the weight is asked for
    ahead.
    """
    # Of the weight, and of a row, in one round.
    size = GROUP_BYTES[kind] if kind == INT8 else GROUP_BYTES[kind] * UNROLLED // GROUP
    inputs = GROUP if kind == INT8 else 4 * UNROLLED

    def emit(
        b: Any, weight: Any, scales: Any, groups: Any, x: Any, stride: Any, factors: Any, starts: Any, apart: Any,
        bias: Any, out: Any, across: Any, add: Any, ahead: Any,
    ) -> None:  # fmt: skip
        count = groups if kind == INT8 else b.mul(groups, I64(GROUP // UNROLLED))
        turn, sums, again = loop(b, count, I64(1), [floats(0.0)] * (rows * tiles))
        place = b.add(weight, b.mul(turn, I64(size)))
        # Two tiles are read only where the weight is in the caches already.
        for line in range(0, size if tiles == 1 else 0, VECTOR):
            there = b.inttoptr(b.add(b.add(place, ahead), I64(line)), I8.as_pointer())
            call(b, "llvm.prefetch.p0i8", ir.VoidType(), [there, I32(0), I32(3), I32(1)])
        places = [at(b, place, b.mul(groups, I64(GROUP_BYTES[kind])), tile) for tile in range(tiles)]
        ours = [b.add(at(b, x, stride, row), b.mul(turn, I64(inputs))) for row in range(rows)]
        if kind == INT8:
            mark = b.mul(turn, I64(4))
            marks = [b.add(at(b, one, apart, row), mark) for one in (starts, factors) for row in range(rows)]
            there = b.mul(turn, I64(2 * LANES))
            scale = [b.add(at(b, scales, b.mul(groups, I64(2 * LANES)), tile), there) for tile in range(tiles)]
            _add_group(b, sums, places, ours, scale, marks)
        else:
            _add_floats(b, sums, places, ours, kind)
        again(sums)
        added = b.icmp_signed("!=", add, I64(0))
        for index, (row, tile) in enumerate(product(range(rows), range(tiles))):
            target = b.add(at(b, out, across, row), I64(VECTOR * tile))
            total = b.fadd(sums[index], load(b, b.add(bias, I64(VECTOR * tile)), FLOATS))
            store(b, b.select(added, b.fadd(load(b, target, FLOATS), total), total), target)

    return emit


def _add_group(
    b: Any, sums: list[Any], places: list[Any], rows: list[Any], scales: list[Any], marks: list[Any]
) -> None:
    """Add the products of one group of steps: at `marks` are what each row's begins at, then its factors."""
    starts, factors = (marks[: len(rows)], marks[len(rows) :])
    totals = [spread(b, load(b, mark, I32)) for mark in starts for _ in places]
    for four in range(GROUP // 4):
        weights = [load(b, b.add(place, I64(VECTOR * four)), INTEGERS) for place in places]
        numbers = [spread(b, load(b, b.add(row, I64(4 * four)), I32)) for row in rows]
        pairs = product(numbers, weights)
        totals = [multiply_bytes(b, total, w, number) for total, (number, w) in zip(totals, pairs, strict=True)]
    scale = [b.fpext(load(b, one, HALVES), FLOATS) for one in scales]
    factor = [spread(b, load(b, mark, F32)) for mark in factors]
    for index, (ours, theirs) in enumerate(product(factor, scale)):
        sums[index] = multiply_add(b, b.fmul(theirs, ours), b.sitofp(totals[index], FLOATS), sums[index])


def _add_floats(b: Any, sums: list[Any], places: list[Any], rows: list[Any], kind: int) -> None:
    """Add the products of a few inputs, one after another."""
    size = GROUP_BYTES[kind] // GROUP
    for one in range(UNROLLED):
        weights = [_weights(b, b.add(place, I64(size * one)), kind) for place in places]
        numbers = [spread(b, load(b, b.add(row, I64(4 * one)), F32)) for row in rows]
        for index, (number, weight) in enumerate(product(numbers, weights)):
            sums[index] = multiply_add(b, weight, number, sums[index])


def _weights(b: Any, address: Any, kind: int) -> Any:
    if kind == FLOAT32:
        return load(b, address, FLOATS)
    # A bfloat16 is the upper half of a float32.
    return b.bitcast(b.shl(b.zext(load(b, address, SHORTS), INTEGERS), integers(16)), FLOATS)


MARKS = {INT8: "int8", FLOAT32: "int32", BFLOAT16: "int16"}
"""The integer of the size of a weight's numbers: its type tells the function that multiplies with it what they are."""


def _tiles(rows: int, tiles: int) -> Any:
    return instruction_of(13, {getattr(types, mark): _tile(kind, rows, tiles) for kind, mark in MARKS.items()})


# On registers of half the width there is room for a quarter.
_WIDE, _TALL, _PAIR = (8, 6, 2) if WIDTH == VECTOR else (4, 4, 1)

_tile_1, _tile_2, _tile_3, _tile_4, _tile_tall = (_tiles(rows, 1) for rows in (1, 2, 3, 4, _WIDE))
_tile_pair = _tiles(_TALL, _PAIR)


def multiply(
    mark: Any, size: int, weight: int, scales: int, groups: int, x: int, stride: int, factors: int, starts: int,
    apart: int, bias: int, out: int, across: int, add: int, rows: int, tiles: int,
) -> None:  # fmt: skip
    """Multiply rows with tiles, which follow each other. To be compiled by `cache.address`.

    `mark` is of one of the types of `MARKS`; bytes of a group of a tile; then as above, with the number of rows and of
    tiles at the end.
    """
    tile = 0
    while tile < tiles:
        begun, wide = 0, 1
        if rows >= MANY and tiles - tile >= _PAIR:
            wide = _PAIR
            w, c, i = weight + tile * groups * size, scales + tile * groups * 32, bias + 64 * tile
            while rows - begun >= _TALL:
                a, f, s, o = x + begun * stride, factors + begun * apart, starts + begun * apart, out + begun * across
                _tile_pair(mark, w, c, groups, a, stride, f, s, apart, i, o + 64 * tile, across, add, 0)
                begun += _TALL
        for one in range(tile, tile + wide):
            w, c, i = weight + one * groups * size, scales + one * groups * 32, bias + 64 * one
            row, ahead = begun, 0 if begun else AHEAD * 2 if rows == 1 else AHEAD
            while row < rows:
                a, f, s = x + row * stride, factors + row * apart, starts + row * apart
                o, left = out + row * across + 64 * one, rows - row
                if left >= _WIDE:
                    _tile_tall(mark, w, c, groups, a, stride, f, s, apart, i, o, across, add, ahead)
                    row += _WIDE
                elif left >= 4:
                    _tile_4(mark, w, c, groups, a, stride, f, s, apart, i, o, across, add, ahead)
                    row += 4
                elif left == 3:
                    _tile_3(mark, w, c, groups, a, stride, f, s, apart, i, o, across, add, ahead)
                    row += 3
                elif left == 2:
                    _tile_2(mark, w, c, groups, a, stride, f, s, apart, i, o, across, add, ahead)
                    row += 2
                else:
                    _tile_1(mark, w, c, groups, a, stride, f, s, apart, i, o, across, add, ahead)
                    row += 1
                ahead = 0
        tile += wide


TAKES = ", ".join(["int64"] * 15)

call_product = caller([types.int64] * 16)
