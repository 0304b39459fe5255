"""Queries and one block of keys: scores, softmax as it goes on, values.

Keys are stored 16 together, with the first number of each, then the second, and so on: a score is a sum of one lane.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from ark_backends.torch_chat.compiled.cache import compiled
from ark_backends.torch_chat.compiled.simd import (
    F32,
    FLOATS,
    I32,
    I64,
    INTEGERS,
    LANES,
    VECTOR,
    at,
    caller,
    exponential,
    floats,
    instruction,
    larger,
    load,
    loop,
    multiply_add,
    put_float,
    reduced,
    spread,
    store,
)
from ark_backends.torch_chat.compiled.tables import (
    KEYS,
    PART,
    STATE,
)

BLOCKS = PART // KEYS

WEIGHED = 4
"""Vectors of a value that are added up at a time, where it has so many."""

VECTORS = KEYS // LANES
"""Of the scores of a block."""


def _scores(pairs: int) -> Any:
    """The scores of so many queries (head_dim) and a block of keys, whose vectors are at four addresses."""

    def emit(b: Any, out: Any, queries: Any, stride: Any, head_dim: Any, *keys: Any) -> None:
        count = pairs * VECTORS
        turn, sums, again = loop(b, head_dim, I64(2), [floats(0.0)] * count)
        for one in range(2):
            across = b.mul(b.add(turn, I64(one)), I64(VECTOR))
            parts = [load(b, b.add(key, across), FLOATS) for key in keys]
            place = b.mul(b.add(turn, I64(one)), I64(4))
            for pair in range(pairs):
                number = spread(b, load(b, b.add(at(b, queries, stride, pair), place), F32))
                for part in range(VECTORS):
                    index = pair * VECTORS + part
                    sums[index] = multiply_add(b, number, parts[part], sums[index])
        again(sums)
        for index, total in enumerate(sums):
            store(b, total, b.add(out, I64(VECTOR * index)))

    return instruction(4 + VECTORS, emit)


def _soften(b: Any, scores: Any, first: Any, stop: Any, softcap: Any, found: Any) -> Any:
    """The scores of a block become weights, those before `first` and from `stop` on zero, and are counted in `found`.

    Returns the share of what was found before: softmax as it goes on (Milakov and Gimelshein, "Online normalizer
    calculation for softmax", 2018).
    """
    lanes = ir.Constant(INTEGERS, list(range(LANES)))
    begin, end = spread(b, b.trunc(first, I32)), spread(b, b.trunc(stop, I32))
    cap = spread(b, softcap)
    capped = b.fcmp_ordered(">", softcap, F32(0.0))
    parts, shown = [], []
    for part in range(VECTORS):
        score = load(b, b.add(scores, I64(VECTOR * part)), FLOATS)
        score = b.select(capped, _capped(b, score, cap), score)
        place = b.add(lanes, ir.Constant(INTEGERS, [LANES * part] * LANES))
        seen = b.and_(b.icmp_signed(">=", place, begin), b.icmp_signed("<", place, end))
        shown.append(seen)
        parts.append(b.select(seen, score, floats(float("-inf"))))
    before = load(b, b.add(found, I64(VECTOR)), F32)
    top = spread(b, before)
    for score in parts:
        top = larger(b, score, top)
    top = spread(b, reduced(b, top, lambda one, other: larger(b, one, other)))
    total = floats(0.0)
    for part, (score, seen) in enumerate(zip(parts, shown, strict=True)):
        weight = b.select(seen, exponential(b, b.fsub(score, top)), floats(0.0))
        store(b, weight, b.add(scores, I64(VECTOR * part)))
        total = b.fadd(total, weight)
    share = exponential(b, b.fsub(spread(b, before), top))
    store(b, multiply_add(b, load(b, found, FLOATS), share, total), found)
    store(b, b.extract_element(top, I32(0)), b.add(found, I64(VECTOR)))
    return b.extract_element(share, I32(0))


def _capped(b: Any, score: Any, cap: Any) -> Any:
    # cap * tanh(score / cap), and tanh(x) is 1 - 2 / (exp(2 x) + 1).
    twice = b.fdiv(b.fadd(score, score), cap)
    below = b.fadd(exponential(b, twice), floats(1.0))
    return b.fmul(cap, b.fsub(floats(1.0), b.fdiv(floats(2.0), below)))


def _weigh(pairs: int, vectors: int) -> Any:
    """So many vectors of what so many queries have found: times their shares, and with values added, each times its
    weight. Arguments: where they are, bytes from one query's to the next; the shares; the weights, of KEYS numbers
    each; the values, bytes from one to the next, and their number."""

    def emit(b: Any, found: Any, stride: Any, shares: Any, weights: Any, values: Any, apart: Any, count: Any) -> None:
        places = [b.add(at(b, found, stride, i), I64(VECTOR * j)) for i in range(pairs) for j in range(vectors)]
        before = []
        for index, place in enumerate(places):
            share = spread(b, load(b, b.add(shares, I64(4 * (index // vectors))), F32))
            before.append(b.fmul(load(b, place, FLOATS), share))
        turn, sums, again = loop(b, count, I64(1), before)
        row = b.add(values, b.mul(turn, apart))
        parts = [load(b, b.add(row, I64(VECTOR * part)), FLOATS) for part in range(vectors)]
        for pair in range(pairs):
            place = b.add(b.add(weights, I64(4 * KEYS * pair)), b.mul(turn, I64(4)))
            weight = spread(b, load(b, place, F32))
            for part in range(vectors):
                index = pair * vectors + part
                sums[index] = multiply_add(b, weight, parts[part], sums[index])
        again(sums)
        for place, total in zip(places, sums, strict=True):
            store(b, total, place)

    return instruction(7, emit)


def _fresh(b: Any, found: Any, vectors: Any) -> None:
    turn, _, again = loop(b, vectors, I64(1), [])
    store(b, floats(0.0), b.add(found, b.mul(turn, I64(VECTOR))))
    again([])
    state = b.add(found, b.mul(vectors, I64(VECTOR)))
    store(b, floats(0.0), state)
    store(b, F32(float("-inf")), b.add(state, I64(VECTOR)))


def _fold(b: Any, total: Any, found: Any, vectors: Any) -> None:
    states = [b.add(one, b.mul(vectors, I64(VECTOR))) for one in (total, found)]
    tops = [load(b, b.add(state, I64(VECTOR)), F32) for state in states]
    top = spread(b, larger(b, *tops))
    ours, theirs = (exponential(b, b.fsub(spread(b, one), top)) for one in tops)
    # The sums of weights, lane by lane, stand behind the values.
    turn, _, again = loop(b, b.add(vectors, I64(1)), I64(1), [])
    across = b.mul(turn, I64(VECTOR))
    here = b.add(total, across)
    part = b.fmul(load(b, b.add(found, across), FLOATS), theirs)
    store(b, multiply_add(b, load(b, here, FLOATS), ours, part), here)
    again([])
    store(b, b.extract_element(top, I32(0)), b.add(states[0], I64(VECTOR)))


def _share(b: Any, total: Any, vectors: Any, out: Any) -> None:
    weights = load(b, b.add(total, b.mul(vectors, I64(VECTOR))), FLOATS)
    weight = spread(b, reduced(b, weights, b.fadd))
    turn, _, again = loop(b, vectors, I64(1), [])
    across = b.mul(turn, I64(VECTOR))
    store(b, b.fdiv(load(b, b.add(total, across), FLOATS), weight), b.add(out, across))
    again([])


_soften_block = instruction(5, _soften, types.float32, [*[types.int64] * 3, types.float32, types.int64])

fold_state = instruction(3, _fold)
"""Add what was found in a later part, and forget nothing of it. Arguments: all, the part, vectors of values."""

begin_state = instruction(2, _fresh)
"""Nothing found yet. Arguments: where, and vectors of values."""

finish_state = instruction(3, _share)
"""What was found in all. Arguments: it, vectors of values, the result."""


_scores_1, _scores_2, _scores_3, _scores_4, _scores_6 = (_scores(pairs) for pairs in (1, 2, 3, 4, 6))

_weigh_1, _weigh_2, _weigh_3, _weigh_4, _weigh_6 = (_weigh(pairs, WEIGHED) for pairs in (1, 2, 3, 4, 6))

_weigh_pair, _weigh_single = _weigh(1, 2), _weigh(1, 1)


def attend_block(
    head_dim: int, softcap: Any, keys: int, last: int, values: int, low: int, high: int, count: int, queries: int,
    weights: int, shares: int, found: int,
) -> None:  # fmt: skip
    """Queries, and the keys from `low` to `high` of a block: `last` is the last vector of keys that is in memory,
    counted from the block's first. All others are addresses."""
    size, row = VECTOR * head_dim, 4 * head_dim
    stride = row + 4 * STATE
    # Behind the end of the memory nothing is read; nobody sees those keys.
    k1, k2, k3 = keys + min(1, last) * size, keys + min(2, last) * size, keys + min(3, last) * size
    query = 0
    while query < count:
        # As many at once as there are registers for.
        number = count - query if count - query < 4 else 4 if count - query < 6 else 6
        q, w, f, s = queries + query * row, weights + query * 4 * KEYS, found + query * stride, shares + 4 * query
        if number == 6:
            _scores_6(w, q, row, head_dim, keys, k1, k2, k3)
        elif number == 4:
            _scores_4(w, q, row, head_dim, keys, k1, k2, k3)
        elif number == 3:
            _scores_3(w, q, row, head_dim, keys, k1, k2, k3)
        elif number == 2:
            _scores_2(w, q, row, head_dim, keys, k1, k2, k3)
        else:
            _scores_1(w, q, row, head_dim, keys, k1, k2, k3)
        for i in range(number):
            put_float(s + 4 * i, _soften_block(w + 4 * KEYS * i, low, high, softcap, f + i * stride + row))
        _weigh_values(number, head_dim // LANES, f, stride, s, w + 4 * low, values + low * row, high - low)
        query += number


@compiled
def _weigh_values(
    number: int, vectors: int, found: int, stride: int, shares: int, weights: int, values: int, count: int
) -> None:
    row = VECTOR * vectors
    while vectors >= WEIGHED:
        if number == 6:
            _weigh_6(found, stride, shares, weights, values, row, count)
        elif number == 4:
            _weigh_4(found, stride, shares, weights, values, row, count)
        elif number == 3:
            _weigh_3(found, stride, shares, weights, values, row, count)
        elif number == 2:
            _weigh_2(found, stride, shares, weights, values, row, count)
        else:
            _weigh_1(found, stride, shares, weights, values, row, count)
        found, values, vectors = found + WEIGHED * VECTOR, values + WEIGHED * VECTOR, vectors - WEIGHED
    while vectors:
        for i in range(number):
            f, s, w = found + i * stride, shares + 4 * i, weights + 4 * KEYS * i
            if vectors >= 2:
                _weigh_pair(f, stride, s, w, values, row, count)
            else:
                _weigh_single(f, stride, s, w, values, row, count)
        step = min(2, vectors)
        found, values, vectors = found + step * VECTOR, values + step * VECTOR, vectors - step


BLOCK_TAKES = "int64, float32, " + ", ".join(["int64"] * 10)

call_block = caller([types.int64, types.float32, *[types.int64] * 10])
