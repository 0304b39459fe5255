"""One step of single tokens through all layers, as one compiled function that several threads run together.

The layers are those of `decoder`, in the same order and with the same roundings. Work is cut into phases, each of
tasks that threads take one after another; who comes late finds less to do, and nobody waits for a thread that has not
begun. Every sum has an order of its own that depends on one token alone: not on its neighbours, on their number, or
on which thread computes it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from ark_backends.torch_chat.compiled.cache import compiled, kept
from ark_backends.torch_chat.compiled.simd import (
    LANES,
    as_float,
    bfloat16_dots,
    copy,
    dots,
    fetch_add,
    float32_dots,
    give_way,
    load_acquire,
    pause,
    weigh_1,
    weigh_2,
    weigh_3,
    weigh_4,
)

INT8, FLOAT32, BFLOAT16 = 0, 1, 2
"""Kinds of a linear layer's weight."""

LINEARS = 4
"""Linear layers in a layer."""

READ, WRITE, OPEN, CLOSE = range(LINEARS)

PHASES = 3
"""Phases for each linear layer: attention before it, where that is its place; its inputs; its outputs."""

COUNTERS = 16
"""Numbers (int64) that a phase has for itself: two are used, each in a cache line of its own."""

WIDEST = 256
"""Outputs of a linear layer that one task computes at most."""

BLOCK = 128
"""Keys whose scores are held at a time."""

PART = 1024
"""Keys that one task attends to."""

PATIENCE = 2000
"""Looks at a counter before the core is left to others."""

LOG2_E = np.float32(1.4426950408889634)

TINY = np.float32(1e-30)


class Linears(NamedTuple):
    """Linear layers in the order of computation, int64 each: of all layers, then the head."""

    kind: Any
    outputs: Any
    inputs: Any
    weight: Any
    """Address of the weight (outputs, inputs)."""
    stride: Any
    """Bytes from one of its rows to the next."""
    first: Any
    """Number of its first output among those of all layers."""
    rows: Any
    """Outputs that one task computes."""


class Model(NamedTuple):
    """What stays the same from step to step."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    scale: Any
    """Of the scores, float32."""
    epsilon: Any
    """Of the normalisations, float32: (2 * layers + 1), two in each layer and the last."""
    gains: Any
    """Theirs (2 * layers + 1, hidden), float32."""
    head_epsilon: Any
    """Of the normalisation of each query and key (layers), float32."""
    head_gains: Any
    """Theirs (layers, heads + kv heads, head_dim), float32; (0, 0, 0) where there is none."""
    ones: Any
    """As many as the widest input, float32."""
    windows: Any
    """Tokens that a layer attends to (layers), int64; 0 for all."""
    linears: Linears
    scales: Any
    """Of each output of all linear layers, for its whole number, float32."""
    shifts: Any
    """Taken from the whole number first, for the 128 that was added to each input, int32."""
    biases: Any
    """Float32, zeros where there are none."""


class Work(NamedTuple):
    """Room for a step's numbers. The first axis is that of tokens, or of threads where it says so."""

    x: Any
    """Between layers (hidden), float32."""
    steps: Any
    """Inputs of a linear layer in 8 bits, with 128 added, uint8."""
    floats: Any
    """The same as they are, float32."""
    factors: Any
    """What the products with them are multiplied by, float32."""
    joined: Any
    """Queries, keys and values ((heads + 2 * kv heads) * head_dim), float32."""
    seen: Any
    """What attention gives (heads * head_dim), float32."""
    hidden: Any
    """Within the MLP, float32."""
    partial: Any
    """Attention to each part of the keys (parts, kv heads, group * (head_dim + 2)), float32: sums of values, then
    the largest scores, then the sums of weights."""
    sums: Any
    """Of each thread: products (2, tokens, WIDEST), int32."""
    results: Any
    """Of each thread: outputs (2, tokens, WIDEST), float32."""
    queries: Any
    """Of each thread: the queries of a KV head (group, head_dim), float32."""
    weights: Any
    """Of each thread: scores and weights of a block (group, BLOCK), float32."""


class Inputs(NamedTuple):
    """One step."""

    tokens: int
    kv: Any
    """Of each token: address and capacity of its sequence's `KVBuffer`, and the length before it, int64."""
    cosine: Any
    """(tokens, head_dim), float32, as `Rope` gives them."""
    sine: Any
    logits: Any
    """What is computed: (tokens, vocabulary), float32."""
    counters: Any
    """(PHASES * linear layers, COUNTERS), int64: zeros."""


@kept
def step(model: Model, work: Work, inputs: Inputs, thread: int) -> None:
    """Take part as one of the threads. When it returns, all of the step is done.

    `work.x` holds the embeddings. Keys and values of the new tokens are written behind the length of their sequences.
    """
    for linear in range(LINEARS * model.layers + 1):
        phase = PHASES * linear
        if linear % LINEARS == WRITE:
            _attended(model, work, inputs, phase, linear // LINEARS, thread)
        _prepared(model, work, inputs, phase + 1, linear)
        _computed(model, work, inputs, phase + 2, linear, thread)


# Tasks.


@compiled
def _take(inputs: Inputs, phase: int) -> int:
    """The next task of a phase."""
    return fetch_add(inputs.counters.ctypes.data + 8 * COUNTERS * phase, 1)


@compiled
def _did(inputs: Inputs, phase: int) -> None:
    fetch_add(inputs.counters.ctypes.data + 8 * (COUNTERS * phase + COUNTERS // 2), 1)


@compiled
def _wait(inputs: Inputs, phase: int, tasks: int) -> None:
    """Until all tasks of a phase are done."""
    counter = inputs.counters.ctypes.data + 8 * (COUNTERS * phase + COUNTERS // 2)
    looks = 0
    while load_acquire(counter) < tasks:
        looks += 1
        if looks < PATIENCE:
            pause()
        else:
            give_way()


# Phases.


@compiled
def _prepared(model: Model, work: Work, inputs: Inputs, phase: int, linear: int) -> None:
    """What a linear layer reads, put where it reads it."""
    kind = linear % LINEARS
    while True:
        token = _take(inputs, phase)
        if token >= inputs.tokens:
            break
        if kind == WRITE:
            _merge(model, work, inputs, linear // LINEARS, token)
            x, gain = work.seen[token], model.ones
        elif kind == CLOSE:
            x, gain = work.hidden[token], model.ones
        else:
            # RMS normalisation, of which the factor comes last.
            x, gain = work.x[token], model.gains[linear // 2]
        factor = _ready(work, token, x, gain, model.linears.inputs[linear], model.linears.kind[linear] == INT8)
        if kind not in (WRITE, CLOSE):
            squares = np.float32(0.0)
            for i in range(len(x)):
                squares += x[i] * x[i]
            factor /= np.sqrt(squares / np.float32(len(x)) + model.epsilon[linear // 2])
        work.factors[token] = factor
        _did(inputs, phase)
    _wait(inputs, phase, inputs.tokens)


@compiled
def _computed(model: Model, work: Work, inputs: Inputs, phase: int, linear: int, thread: int) -> None:
    """A linear layer of what was prepared, and what follows of each output by itself."""
    head = linear == LINEARS * model.layers
    kind, rows = linear % LINEARS, model.linears.rows[linear]
    # SwiGLU: the first half are gates of the second.
    halves = 2 if kind == OPEN else 1
    outputs = model.linears.outputs[linear] // halves
    tasks = (outputs + rows - 1) // rows
    while True:
        task = _take(inputs, phase)
        if task >= tasks:
            break
        # The last rows may be computed twice, where their number does not divide.
        first = min(task * rows, outputs - rows)
        for half in range(halves):
            _multiply(model, work, inputs.tokens, linear, half * outputs + first, half, thread)
        for token in range(inputs.tokens):
            result = work.results[thread, 0, token]
            if head:
                place = inputs.logits[token, first:]
                for i in range(rows):
                    place[i] = result[i]
            elif kind == READ:
                place = work.joined[token, first:]
                for i in range(rows):
                    place[i] = result[i]
            elif kind == OPEN:
                place, gated = work.hidden[token, first:], work.results[thread, 1, token]
                for i in range(rows):
                    place[i] = result[i] / (np.float32(1.0) + _exp(-result[i])) * gated[i]
            else:
                place = work.x[token, first:]
                for i in range(rows):
                    place[i] += result[i]
        _did(inputs, phase)
    _wait(inputs, phase, tasks)


@compiled
def _attended(model: Model, work: Work, inputs: Inputs, phase: int, layer: int, thread: int) -> None:
    """Queries and keys turned, keys and values stored, and each part of the keys attended to."""
    tasks = 0
    for token in range(inputs.tokens):
        tasks += _parts(model, inputs, token, layer) * model.kv_heads
    while True:
        task = _take(inputs, phase)
        if task >= tasks:
            break
        part, kv_head, token = task // model.kv_heads, task % model.kv_heads, 0
        while part >= _parts(model, inputs, token, layer):
            part -= _parts(model, inputs, token, layer)
            token += 1
        _attend(model, work, inputs, layer, token, part, kv_head, thread)
        _did(inputs, phase)
    _wait(inputs, phase, tasks)


# What phases are made of.


@compiled
def _ready(work: Work, token: int, x: Any, gain: Any, width: int, whole: bool) -> Any:
    """Put the inputs of a linear layer, times a gain, where it reads them: as whole numbers or as they are. Returns the
    factor of the products."""
    if not whole:
        floats = work.floats[token]
        for i in range(width):
            floats[i] = x[i] * gain[i]
        return np.float32(1.0)
    largest, total = TINY, np.float32(0.0)
    for i in range(width):
        size = abs(x[i] * gain[i])
        largest = max(largest, size)
        total += size
    scale = np.float32(127.0) / largest
    steps = work.steps[token]
    for i in range(width):
        # Unsigned, as the instruction wants them; the products know.
        steps[i] = np.uint8(np.int32(np.rint(x[i] * gain[i] * scale)) + np.int32(128))
    # What is not finite has no place in 8 bits, and must not be lost in them.
    return largest if np.isfinite(total) else np.float32(np.nan)


@compiled
def _merge(model: Model, work: Work, inputs: Inputs, layer: int, token: int) -> None:
    """The parts of attention put together."""
    group, head_dim = model.heads // model.kv_heads, model.head_dim
    parts = _parts(model, inputs, token, layer)
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
            share = _exp(found[part, kv_head, largest] - top)
            weight += share * found[part, kv_head, total]
            values = found[part, kv_head, query * head_dim :]
            for i in range(head_dim):
                seen[i] += share * values[i]
        for i in range(head_dim):
            seen[i] /= weight


@compiled
def _multiply(model: Model, work: Work, tokens: int, linear: int, first: int, place: int, thread: int) -> None:
    """The outputs of one task of a linear layer, from the `first` on, into `work.results[thread, place]`."""
    linears, results = model.linears, work.results[thread, place]
    kind, width, stride = linears.kind[linear], linears.inputs[linear], linears.stride[linear]
    weight, rows = linears.weight[linear] + first * stride, linears.rows[linear]
    last = rows - 1
    for row in range(0, rows, LANES):
        here = weight + row * stride
        for token in range(tokens):
            if kind == INT8:
                dots(
                    work.sums[thread, place, token, row:].ctypes.data,
                    here,
                    stride,
                    work.steps[token].ctypes.data,
                    width,
                )
            elif kind == FLOAT32:
                float32_dots(
                    results[token, row:].ctypes.data, here, stride, last, work.floats[token].ctypes.data, width
                )
            else:
                bfloat16_dots(
                    results[token, row:].ctypes.data, here, stride, last, work.floats[token].ctypes.data, width
                )
    first += linears.first[linear]
    scale, shift = model.scales[first : first + rows], model.shifts[first : first + rows]
    bias = model.biases[first : first + rows]
    for token in range(tokens):
        result, factor = results[token], work.factors[token]
        if kind == INT8:
            sums = work.sums[thread, place, token]
            for i in range(rows):
                result[i] = np.float32(sums[i] - shift[i]) * scale[i] * factor + bias[i]
        else:
            for i in range(rows):
                result[i] = result[i] * factor + bias[i]


@compiled
def _parts(model: Model, inputs: Inputs, token: int, layer: int) -> int:
    return (inputs.kv[token, 2] - _start(model, inputs, token, layer)) // PART + 1


@compiled
def _start(model: Model, inputs: Inputs, token: int, layer: int) -> int:
    """The first key that a token attends to."""
    window, length = model.windows[layer], inputs.kv[token, 2]
    return max(0, length + 1 - window) if window else 0


@compiled
def _attend(
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
def _weights(found: Any, scores: Any, count: int, query: int, group: int, head_dim: int) -> None:
    """Scores of a block become weights, and what was found before is made comparable: softmax as it goes on
    (Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018)."""
    largest, total = group * head_dim + query, group * (head_dim + 1) + query
    top = found[largest]
    for i in range(count):
        top = max(top, scores[i])
    weight = np.float32(0.0)
    for i in range(count):
        scores[i] = _exp(scores[i] - top)
        weight += scores[i]
    share = _exp(found[largest] - top)
    found[largest] = top
    found[total] = found[total] * share + weight
    for i in range(query * head_dim, (query + 1) * head_dim):
        found[i] *= share


@compiled
def _weigh(out: int, weights: Any, values: int, count: int, group: int, head_dim: int) -> None:
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
def _exp(x: Any) -> Any:
    """The exponential in float32, as 2 to a whole number times 2 to the rest (the polynomial is that of Cephes'
    exp2f, by Stephen Moshier). Not a number stays what it is."""
    power = x * LOG2_E
    # What is smaller or larger is cut off where float32 nearly ends.
    power = np.float32(-126.0) if power < np.float32(-126.0) else power
    power = np.float32(126.0) if power > np.float32(126.0) else power
    whole = np.rint(power)
    rest = power - whole
    value = np.float32(1.535336188319500e-4)
    value = value * rest + np.float32(1.339887440266574e-3)
    value = value * rest + np.float32(9.618437357674640e-3)
    value = value * rest + np.float32(5.550332471162809e-2)
    value = value * rest + np.float32(2.402264791363012e-1)
    value = value * rest + np.float32(6.931472028550421e-1)
    value = value * rest + np.float32(1.0)
    return value * as_float((np.int32(whole) + np.int32(127)) << np.int32(23))
