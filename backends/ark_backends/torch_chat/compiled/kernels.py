"""One step of single tokens through all layers, as one compiled function that several threads run together.

The layers are those of `decoder`, in the same order and with the same roundings. Work is cut into phases, each of
tasks that threads take one after another; who comes late finds less to do, and nobody waits for a thread that has not
begun. Every sum has an order of its own that depends on one token alone: not on its neighbours, on their number, or
on which thread computes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ark_backends.torch_chat.compiled.attending import attend, exp, merge, parts_of
from ark_backends.torch_chat.compiled.cache import compiled, kept
from ark_backends.torch_chat.compiled.simd import (
    LANES,
    bfloat16_dots,
    dots,
    fetch_add,
    float32_dots,
    give_way,
    load_acquire,
    pause,
)
from ark_backends.torch_chat.compiled.tables import (
    CLOSE,
    COUNTERS,
    FLOAT32,
    INT8,
    LINEARS,
    OPEN,
    PHASES,
    READ,
    WRITE,
    Inputs,
    Model,
    Work,
)

PATIENCE = 2000
"""Looks at a counter before the core is left to others."""

TINY = np.float32(1e-30)
"""Stands for the largest magnitude of a token whose activations are all zero."""


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
def _take(inputs: Inputs, phase: int) -> Any:
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
            merge(model, work, inputs, linear // LINEARS, token)
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
        # The last rows may be computed twice, where their number does not divide: never where they are added.
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
                    place[i] = result[i] / (np.float32(1.0) + exp(-result[i])) * gated[i]
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
        tasks += parts_of(model, inputs, token, layer) * model.kv_heads
    while True:
        task = _take(inputs, phase)
        if task >= tasks:
            break
        part, kv_head, token = task // model.kv_heads, task % model.kv_heads, 0
        while part >= parts_of(model, inputs, token, layer):
            part -= parts_of(model, inputs, token, layer)
            token += 1
        attend(model, work, inputs, layer, token, part, kv_head, thread)
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
    if not np.isfinite(total):
        # It has no place in 8 bits, and must not be lost in them.
        return np.float32(np.nan)
    scale = np.float32(127.0) / largest
    steps = work.steps[token]
    for i in range(width):
        # Unsigned, as the instruction wants them; the products know.
        steps[i] = np.uint8(np.int32(np.rint(x[i] * gain[i] * scale)) + np.int32(128))
    return largest


@compiled
def _multiply(model: Model, work: Work, tokens: int, linear: int, first: int, place: int, thread: int) -> None:
    """The outputs of one task of a linear layer, from the `first` on, into `work.results[thread, place]`."""
    linears, results = model.linears, work.results[thread, place]
    kind, width, stride = linears.kind[linear], linears.inputs[linear], linears.stride[linear]
    weight, rows = linears.weight[linear] + first * stride, linears.rows[linear]
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
                    results[token, row:].ctypes.data, here, stride, LANES, work.floats[token].ctypes.data, width
                )
            else:
                bfloat16_dots(
                    results[token, row:].ctypes.data, here, stride, LANES, work.floats[token].ctypes.data, width
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
