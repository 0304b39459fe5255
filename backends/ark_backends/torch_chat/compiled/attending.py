"""Attention of single tokens, and what it has in common with the other kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ark_backends.torch_chat.compiled.cache import compiled
from ark_backends.torch_chat.compiled.simd import (
    LANES,
    as_float,
    copy,
    float32_dots,
    weigh_1,
    weigh_2,
    weigh_3,
    weigh_4,
)
from ark_backends.torch_chat.compiled.tables import BLOCK, PART, Inputs, Model, Work

LOG2_E = np.float32(1.4426950408889634)


@compiled
def attend(
    model: Model, work: Work, inputs: Inputs, layer: int, token: int, part: int, kv_head: int, thread: int
) -> None:
    """A token's queries of one KV head, and a part of the keys."""
    group, head_dim = model.heads // model.kv_heads, model.head_dim
    base, capacity, length = inputs.kv[token, 0], inputs.kv[token, 1], inputs.kv[token, 2]
    head_bytes = 4 * head_dim * capacity
    keys = base + (2 * layer * model.kv_heads + kv_head) * head_bytes
    values = base + ((2 * layer + 1) * model.kv_heads + kv_head) * head_bytes
    first = _start(model, inputs, token, layer) + part * PART
    stop = min(first + PART, length + 1)
    joined, queries, weights = work.joined[token], work.queries[thread], work.weights[thread]
    if stop == length + 1:
        # The part with the newest key is the one that writes it; no other reads it.
        place = model.heads + kv_head
        _turned(model, inputs, joined, layer, token, place, np.float32(1.0), queries[0])
        copy(keys + 4 * head_dim * length, queries[0].ctypes.data, 4 * head_dim)
        value = joined[(place + model.kv_heads) * head_dim :]
        copy(values + 4 * head_dim * length, value.ctypes.data, 4 * head_dim)
    found = work.partial[token, part, kv_head]
    for query in range(group):
        _turned(model, inputs, joined, layer, token, kv_head * group + query, model.scale, queries[query])
        found[group * head_dim + query] = -np.inf
        found[group * (head_dim + 1) + query] = np.float32(0.0)
    for i in range(group * head_dim):
        found[i] = np.float32(0.0)
    for start in range(first, stop, BLOCK):
        count = min(BLOCK, stop - start)
        here = 4 * head_dim * start
        for row in range(0, count, LANES):
            for query in range(group):
                there = keys + here + 4 * head_dim * row
                out = weights[query, row:].ctypes.data
                float32_dots(out, there, 4 * head_dim, count - row - 1, queries[query].ctypes.data, head_dim)
        for query in range(group):
            _weights(found, weights[query], count, query, group, head_dim)
        _weigh(found.ctypes.data, weights, values + here, count, group, head_dim)


@compiled
def merge(model: Model, work: Work, inputs: Inputs, layer: int, token: int) -> None:
    """The parts of attention put together."""
    group, head_dim = model.heads // model.kv_heads, model.head_dim
    parts = parts_of(model, inputs, token, layer)
    for head in range(model.heads):
        kv_head, query = head // group, head % group
        largest, total = group * head_dim + query, group * (head_dim + 1) + query
        found = work.partial[token]
        top = found[0, kv_head, largest]
        for part in range(1, parts):
            top = max(top, found[part, kv_head, largest])
        seen = work.seen[token, head * head_dim :]
        for i in range(head_dim):
            seen[i] = np.float32(0.0)
        weight = np.float32(0.0)
        for part in range(parts):
            share = exp(found[part, kv_head, largest] - top)
            weight += share * found[part, kv_head, total]
            values = found[part, kv_head, query * head_dim :]
            for i in range(head_dim):
                seen[i] += share * values[i]
        for i in range(head_dim):
            seen[i] /= weight


@compiled
def parts_of(model: Model, inputs: Inputs, token: int, layer: int) -> Any:
    """In how many parts a token attends to its keys, of which the last has the newest."""
    return (inputs.kv[token, 2] - _start(model, inputs, token, layer)) // PART + 1


@compiled
def _start(model: Model, inputs: Inputs, token: int, layer: int) -> int:
    """The first key that a token attends to."""
    window, length = model.windows[layer], inputs.kv[token, 2]
    return max(0, length + 1 - window) if window else 0


@compiled
def _weights(found: Any, scores: Any, count: int, query: int, group: int, head_dim: int) -> None:
    """Scores of a block become weights, and what was found before is made comparable: softmax as it goes on
    (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018)."""
    largest, total = group * head_dim + query, group * (head_dim + 1) + query
    top = found[largest]
    for i in range(count):
        top = max(top, scores[i])
    weight = np.float32(0.0)
    for i in range(count):
        scores[i] = exp(scores[i] - top)
        weight += scores[i]
    share = exp(found[largest] - top)
    found[largest] = top
    found[total] = found[total] * share + weight
    for i in range(query * head_dim, (query + 1) * head_dim):
        found[i] *= share


@compiled
def _weigh(out: int, weights: Any, values: int, count: int, group: int, head_dim: int) -> None:
    """Add the values of a block, at an address, to what each query has found."""
    query = 0
    stride = weights.strides[0]
    while query < group:
        left = group - query
        place, those = out + 4 * head_dim * query, weights[query].ctypes.data
        if left >= 4:
            weigh_4(place, those, stride, values, count, head_dim)
        elif left == 3:
            weigh_3(place, those, stride, values, count, head_dim)
        elif left == 2:
            weigh_2(place, those, stride, values, count, head_dim)
        else:
            weigh_1(place, those, stride, values, count, head_dim)
        query += 4


@compiled
def _turned(model: Model, inputs: Inputs, joined: Any, layer: int, token: int, head: int, scale: Any, out: Any) -> None:
    """A query or key: normalised where the model does that, and turned by its position."""
    head_dim, half = model.head_dim, model.head_dim // 2
    x = joined[head * head_dim : (head + 1) * head_dim]
    cosine, sine = inputs.cosine[token], inputs.sine[token]
    if len(model.head_gains):
        gain = model.head_gains[layer, head]
        squares = np.float32(0.0)
        for i in range(head_dim):
            squares += x[i] * x[i]
        scale = scale / np.sqrt(squares / np.float32(head_dim) + model.head_epsilon[layer])
        for i in range(half):
            low, high = x[i] * gain[i], x[i + half] * gain[i + half]
            out[i] = (low * cosine[i] + high * sine[i]) * scale
            out[i + half] = (high * cosine[i + half] + low * sine[i + half]) * scale
    else:
        for i in range(half):
            out[i] = (x[i] * cosine[i] + x[i + half] * sine[i]) * scale
            out[i + half] = (x[i + half] * cosine[i + half] + x[i] * sine[i + half]) * scale


@compiled
def exp(x: Any) -> Any:
    """The exponential in float32, as 2 to a whole number times 2 to the rest (the polynomial is that of Cephes'
    exp2f, by Stephen Moshier). Not a number stays what it is."""
    power = x * LOG2_E
    # What is smaller or larger is cut off where float32 nearly ends.
    power = np.float32(-126.0) if power < np.float32(-126.0) else power
    power = np.float32(126.0) if power > np.float32(126.0) else power
    # What is not a number has no whole part; the rest keeps it.
    whole = np.rint(power) if power == power else np.float32(0.0)  # noqa: PLR0124
    rest = power - whole
    value = np.float32(1.535336188319500e-4)
    value = value * rest + np.float32(1.339887440266574e-3)
    value = value * rest + np.float32(9.618437357674640e-3)
    value = value * rest + np.float32(5.550332471162809e-2)
    value = value * rest + np.float32(2.402264791363012e-1)
    value = value * rest + np.float32(6.931472028550421e-1)
    value = value * rest + np.float32(1.0)
    return value * as_float((np.int32(whole) + np.int32(127)) << np.int32(23))
