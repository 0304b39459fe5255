"""Attention to keys in blocks at fixed positions.

A token compares its queries with blocks of 64 keys, counted from the first token of the sequence, and adds up what it
finds block by block, and parts of 1,024 keys in their order. So its numbers do not depend on which of the keys were
there before, on the queries beside it, or on how many threads compute them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ark_backends.torch_chat.compiled.block import begin_state, call_block, finish_state, fold_state
from ark_backends.torch_chat.compiled.cache import compiled
from ark_backends.torch_chat.compiled.rows import normalise, rotate
from ark_backends.torch_chat.compiled.simd import LANES, VECTOR, copy, float_at, int_at, put_float, put_int
from ark_backends.torch_chat.compiled.tables import (
    ADDRESS,
    COUNT,
    FIRST,
    KEYS,
    PAIRS,
    PART,
    PAST,
    STATE,
    STRIDE,
    Inputs,
    Model,
    Work,
)


@compiled
def of_sequence(inputs: Inputs, owner: int, column: int) -> Any:
    """A number of the table of sequences."""
    return int_at(inputs.sequences + 8 * (5 * owner + column))


@compiled
def owner_of(inputs: Inputs, row: int) -> Any:
    return int_at(inputs.owners + 8 * row)


@compiled
def first_key(model: Model, layer: int, place: int) -> Any:
    """The first key that a token attends to."""
    window = int_at(model.windows + 8 * layer)
    return max(0, place + 1 - window) if window else 0


@compiled
def store_row(model: Model, work: Work, inputs: Inputs, layer: int, row: int, thread: int) -> None:
    """Put a row's keys and values where its sequence keeps them."""
    owner, head_dim = owner_of(inputs, row), model.head_dim
    place = of_sequence(inputs, owner, PAST) + row - of_sequence(inputs, owner, FIRST)
    wide = 4 * head_dim
    size = wide * of_sequence(inputs, owner, STRIDE)
    keys = of_sequence(inputs, owner, ADDRESS) + 2 * layer * model.kv_heads * size
    values = keys + model.kv_heads * size + place * wide
    keys += place // LANES * LANES * wide + 4 * (place % LANES)
    joined = work.joined + 4 * row * work.joined_width
    for kv_head in range(model.kv_heads):
        key = joined + (model.heads + kv_head) * wide
        _turn(model, work, inputs, layer, row, key, 1, key, thread)
        for i in range(head_dim):
            put_float(keys + kv_head * size + VECTOR * i, float_at(key + 4 * i))
        copy(values + kv_head * size, key + model.kv_heads * wide, wide)


@compiled
def attend_part(
    model: Model, work: Work, inputs: Inputs, layer: int, row: int, kv_head: int, part: int, thread: int
) -> None:
    """The queries of a single token for one KV head, and one part of its keys."""
    group, owner = model.heads // model.kv_heads, owner_of(inputs, row)
    place, state = of_sequence(inputs, owner, PAST), 4 * (model.head_dim + STATE)
    found = work.partial + ((owner * work.parts + part) * model.heads + kv_head * group) * state
    tiles = (group + PAIRS - 1) // PAIRS
    count = (group + tiles - 1) // tiles
    for first in range(0, group, count):
        number = min(count, group - first)
        for i in range(number):
            _query(model, work, inputs, layer, row, kv_head * group + first + i, place, i, thread)
            begin_state(found + (first + i) * state, model.head_dim // LANES)
        _attend_blocks(model, work, inputs, layer, owner, kv_head, part, number, found + first * state, thread)


@compiled
def merge_parts(model: Model, work: Work, inputs: Inputs, layer: int, row: int) -> None:
    """What a single token has found in all parts of its keys."""
    owner, state, vectors = owner_of(inputs, row), 4 * (model.head_dim + STATE), model.head_dim // LANES
    place = of_sequence(inputs, owner, PAST)
    first = first_key(model, layer, place) // PART
    apart, seen = model.heads * state, work.seen + 4 * row * work.seen_width
    for head in range(model.heads):
        total = work.partial + ((owner * work.parts + first) * model.heads + head) * state
        for part in range(1, place // PART - first + 1):
            fold_state(total, total + part * apart, vectors)
        finish_state(total, vectors, seen + 4 * head * model.head_dim)


@compiled
def attend_tile(
    model: Model, work: Work, inputs: Inputs, layer: int, owner: int, kv_head: int, tile: int, thread: int
) -> None:
    """Up to PAIRS queries of a sequence with several new tokens, for one KV head."""
    group, state, vectors = model.heads // model.kv_heads, 4 * (model.head_dim + STATE), model.head_dim // LANES
    past, start = of_sequence(inputs, owner, PAST), of_sequence(inputs, owner, FIRST)
    first = tile * PAIRS
    number = min(PAIRS, of_sequence(inputs, owner, COUNT) * group - first)
    found, totals = work.found + 2 * thread * PAIRS * state, work.found + (2 * thread + 1) * PAIRS * state
    for i in range(number):
        token, head = (first + i) // group, kv_head * group + (first + i) % group
        _query(model, work, inputs, layer, start + token, head, past + token, i, thread)
    places = work.places + 16 * thread * PAIRS
    stops = places + 8 * PAIRS
    for part in range(int_at(places) // PART, (int_at(stops + 8 * (number - 1)) - 1) // PART + 1):
        for i in range(number):
            begin_state(found + i * state, vectors)
        _attend_blocks(model, work, inputs, layer, owner, kv_head, part, number, found, thread)
        for i in range(number):
            begun = int_at(places + 8 * i) // PART
            if begun == part:
                copy(totals + i * state, found + i * state, state)
            elif begun < part and int_at(stops + 8 * i) > part * PART:
                fold_state(totals + i * state, found + i * state, vectors)
    for i in range(number):
        token, head = (first + i) // group, kv_head * group + (first + i) % group
        seen = work.seen + 4 * ((start + token) * work.seen_width + head * model.head_dim)
        finish_state(totals + i * state, vectors, seen)


@compiled
def _query(
    model: Model, work: Work, inputs: Inputs, layer: int, row: int, head: int, place: int, number: int, thread: int
) -> None:
    wide, places = 4 * model.head_dim, work.places + 8 * (2 * thread * PAIRS + number)
    query = work.joined + 4 * row * work.joined_width + head * wide
    _turn(model, work, inputs, layer, row, query, 0, work.queries + (thread * PAIRS + number) * wide, thread)
    put_int(places, first_key(model, layer, place))
    put_int(places + 8 * PAIRS, place + 1)


@compiled
def _turn(
    model: Model, work: Work, inputs: Inputs, layer: int, row: int, x: int, key: int, out: int, thread: int
) -> None:
    """A query or a key: normalised where the model does that, turned by its position, and queries scaled."""
    head_dim, wide = model.head_dim, 4 * model.head_dim
    twice = work.turned + 2 * wide * thread
    if model.head_gains:
        gain = model.head_gains + (2 * layer + key) * wide
        normalise(x, gain, head_dim // LANES, np.float32(head_dim), model.epsilon, twice)
    else:
        copy(twice, x, wide)
    copy(twice + wide, twice, wide)
    there = (int_at(model.rotations + 8 * layer) * inputs.rows + row) * wide
    scale = np.float32(1.0) if key else model.scale
    rotate(twice, head_dim, inputs.cosine + there, inputs.sine + there, scale, out)


@compiled
def _attend_blocks(
    model: Model, work: Work, inputs: Inputs, layer: int, owner: int, kv_head: int, part: int, number: int,
    found: int, thread: int,
) -> None:  # fmt: skip
    """The first `number` queries of a thread, and the blocks of one part."""
    wide, stride = 4 * model.head_dim, of_sequence(inputs, owner, STRIDE)
    size, state = wide * stride, wide + 4 * STATE
    keys = of_sequence(inputs, owner, ADDRESS) + (2 * layer * model.kv_heads + kv_head) * size
    values = keys + model.kv_heads * size
    firsts = work.places + 16 * thread * PAIRS
    stops, last = firsts + 8 * PAIRS, 8 * (number - 1)
    weights, shares = work.weights + 4 * KEYS * PAIRS * thread, work.shares + VECTOR * thread
    queries = work.queries + thread * PAIRS * wide
    end = min((part + 1) * PART, int_at(stops + last))
    for begin in range(max(part * PART, int_at(firsts) // KEYS * KEYS), end, KEYS):
        k, v, vectors = keys + begin * wide, values + begin * wide, (stride - begin) // LANES - 1
        alike = int_at(firsts + last) <= begin and int_at(stops) >= begin + KEYS
        query = 0
        while query < number:
            first, stop, count = int_at(firsts + 8 * query), int_at(stops + 8 * query), number
            if not alike:
                # The queries of one token after those of another: each sees another end of the block.
                count = 1
                while query + count < number and int_at(stops + 8 * (query + count)) == stop:
                    count += 1
            low, high = max(0, first - begin), min(KEYS, stop - begin)
            if low < high:
                call_block(
                    model.block, model.head_dim, model.softcap, k, vectors, v, low, high, count,
                    queries + query * wide, weights, shares, found + query * state,
                )  # fmt: skip
            query += count
