"""All rows of a step through all layers, as one compiled function that several threads run together.

A row is a token of a sequence: one that follows what was generated, or one of many of a prompt. Work is cut into
phases, each of tasks that threads take one after another; who comes late finds less to do, and nobody waits for a
thread that has not begun. Every sum has an order of its own that depends on one row alone: not on its neighbours, on
their number, or on which thread computes it.
"""

from __future__ import annotations

from typing import Any

from ark_backends.torch_chat.compiled.attending import (
    attend_part,
    attend_tile,
    first_key,
    merge_parts,
    of_sequence,
    owner_of,
    store_row,
)
from ark_backends.torch_chat.compiled.cache import compiled, kept
from ark_backends.torch_chat.compiled.products import call_product
from ark_backends.torch_chat.compiled.rows import add_normalised, gelu_gate, normalise, quantize, silu_gate
from ark_backends.torch_chat.compiled.simd import LANES, VECTOR, copy, int_at, round_as_usual
from ark_backends.torch_chat.compiled.tables import (
    BIAS,
    BYTES,
    CLOSE,
    COUNT,
    FIRST,
    GROUP,
    GROUPS,
    INT8,
    KIND,
    LINEARS,
    OPEN,
    PAIRS,
    PART,
    PAST,
    PHASES,
    PRODUCT,
    READ,
    ROWS,
    SCALES,
    TASK,
    TILES,
    WEIGHT,
    WRITE,
    Inputs,
    Model,
    Work,
)
from ark_backends.torch_chat.compiled.tasks import did, take, wait


@kept
def compute(model: Model, work: Work, inputs: Inputs, thread: int) -> None:
    """Take part as one of the threads. When it returns, all of the pass is done.

    `work.x` holds the embeddings. Keys and values of the new tokens are written behind the length of their sequences.
    """
    round_as_usual()
    for linear in range(LINEARS * model.layers + 1):
        phase, kind, layer = PHASES * linear, linear % LINEARS, linear // LINEARS
        last = linear >= LINEARS * model.layers - LINEARS + WRITE
        if kind == WRITE:
            _stored(model, work, inputs, phase, layer, thread)
            if last and not inputs.wanted_count:
                # A piece of a prompt: its keys and values are all that anybody needs.
                break
            _attended(model, work, inputs, phase + 1, layer, last, thread)
        # Behind the last attention a row matters to nothing but its own logits.
        rows = inputs.wanted_count if last else inputs.rows
        x = work.last if last else work.x
        if kind != CLOSE:
            _prepared(model, work, inputs, phase + 2, linear, rows, x, last)
        _computed(model, work, inputs, phase + 3, linear, rows, x, thread)


# Phases.


@compiled
def _stored(model: Model, work: Work, inputs: Inputs, phase: int, layer: int, thread: int) -> None:
    """Keys and values, put where their sequences keep them."""
    while True:
        row = take(inputs.counters, phase)
        if row >= inputs.rows:
            break
        store_row(model, work, inputs, layer, row, thread)
        did(inputs.counters, phase)
    wait(inputs.counters, phase, inputs.rows)


@compiled
def _attended(model: Model, work: Work, inputs: Inputs, phase: int, layer: int, last: bool, thread: int) -> None:
    """Each query, and the keys that it sees: of single tokens in parts, of others tile by tile."""
    tasks = 0
    for owner in range(inputs.sequence_count):
        tasks += _attention_tasks(model, inputs, owner, layer)
    while True:
        task = take(inputs.counters, phase)
        if task >= tasks:
            break
        # The last sequences first, and of each the last tokens: they take longest.
        left, owner = tasks - 1 - task, 0
        while left >= _attention_tasks(model, inputs, owner, layer):
            left -= _attention_tasks(model, inputs, owner, layer)
            owner += 1
        which, kv_head, first = left // model.kv_heads, left % model.kv_heads, of_sequence(inputs, owner, FIRST)
        if of_sequence(inputs, owner, COUNT) == 1:
            if not last or int_at(inputs.chosen + 8 * first):
                begin = first_key(model, layer, of_sequence(inputs, owner, PAST)) // PART
                attend_part(model, work, inputs, layer, first, kv_head, begin + which, thread)
        elif not last or _is_chosen(model, inputs, owner, which):
            attend_tile(model, work, inputs, layer, owner, kv_head, which, thread)
        did(inputs.counters, phase)
    wait(inputs.counters, phase, tasks)


@compiled
def _attention_tasks(model: Model, inputs: Inputs, owner: int, layer: int) -> Any:
    past, tokens = of_sequence(inputs, owner, PAST), of_sequence(inputs, owner, COUNT)
    if tokens == 1:
        return (past // PART - first_key(model, layer, past) // PART + 1) * model.kv_heads
    return (tokens * (model.heads // model.kv_heads) + PAIRS - 1) // PAIRS * model.kv_heads


@compiled
def _is_chosen(model: Model, inputs: Inputs, owner: int, tile: int) -> Any:
    """Whether a tile has queries of a row whose logits are wanted."""
    group, first = model.heads // model.kv_heads, of_sequence(inputs, owner, FIRST)
    begin = tile * PAIRS // group
    end = min(of_sequence(inputs, owner, COUNT), (tile * PAIRS + PAIRS - 1) // group + 1)
    found = 0
    for token in range(begin, end):
        found += int_at(inputs.chosen + 8 * (first + token))
    return found > 0


@compiled
def _prepared(model: Model, work: Work, inputs: Inputs, phase: int, linear: int, rows: int, x: int, last: bool) -> None:
    """What a linear layer reads, put where it reads it."""
    kind, vectors, norm = linear % LINEARS, model.width // LANES, linear // 2
    while True:
        row = take(inputs.counters, phase)
        if row >= rows:
            break
        here, out = x + 4 * row * model.width, work.floats + 4 * row * work.widest
        if kind == WRITE:
            source = int_at(inputs.wanted + 8 * row) if last else row
            if of_sequence(inputs, owner_of(inputs, source), COUNT) == 1:
                merge_parts(model, work, inputs, linear // LINEARS, source)
            copy(out, work.seen + 4 * source * work.seen_width, 4 * work.seen_width)
            if last:
                copy(here, work.x + 4 * source * model.width, 4 * model.width)
        else:
            if linear and model.post_gains:
                gain = model.post_gains + 4 * (norm - 1) * model.width
                branch = work.branch + 4 * row * model.width
                add_normalised(branch, gain, vectors, model.hidden, model.epsilon, here)
            normalise(here, model.gains + 4 * norm * model.width, vectors, model.hidden, model.epsilon, out)
        if of_linear(model, linear, KIND) == INT8:
            _in_steps(work, 0, row, 0, of_linear(model, linear, GROUPS))
        did(inputs.counters, phase)
    wait(inputs.counters, phase, rows)


@compiled
def _computed(
    model: Model, work: Work, inputs: Inputs, phase: int, linear: int, rows: int, x: int, thread: int
) -> None:
    """A linear layer of what was prepared, and what follows of each output by itself."""
    kind, at_once, tiles = linear % LINEARS, of_linear(model, linear, TASK), of_linear(model, linear, TILES)
    columns = (tiles + at_once - 1) // at_once
    # So many rows that what is read of them stays in a core's own cache.
    block = max(12, min(ROWS, 400_000 // (GROUP * of_linear(model, linear, GROUPS))) // 12 * 12)
    tasks = (rows + block - 1) // block * columns
    out, across, add = x, 4 * model.width, 0
    if linear == LINEARS * model.layers:
        out, across = inputs.logits, VECTOR * tiles
    elif kind == READ:
        out, across = work.joined, 4 * work.joined_width
    elif kind == OPEN:
        out, across = work.results + VECTOR * at_once * ROWS * thread, VECTOR * at_once
    elif model.post_gains:
        out = work.branch
    else:
        add = 1
    while True:
        task = take(inputs.counters, phase)
        if task >= tasks:
            break
        first, tile = task // columns * block, task % columns * at_once
        count, number = min(block, rows - first), min(at_once, tiles - tile)
        place = out if kind == OPEN else out + first * across + VECTOR * tile
        _multiply(model, work, linear, first, count, tile, number, place, across, add)
        if kind == OPEN:
            _gated(model, work, linear, first, count, tile, number, out)
        did(inputs.counters, phase)
    wait(inputs.counters, phase, tasks)


# What phases are made of.


@compiled
def of_linear(model: Model, linear: int, column: int) -> Any:
    """A number of the table of linear layers."""
    return int_at(model.linears + 8 * (9 * linear + column))


@compiled
def _in_steps(work: Work, buffer: int, row: int, group: int, groups: int) -> None:
    """So many groups of a row of a buffer in 8 bits."""
    place = (buffer * work.rows + row) * work.widest + GROUP * group
    mark = 4 * ((buffer * work.rows + row) * (work.widest // GROUP) + group)
    quantize(work.floats + 4 * place, groups, work.steps + place, work.factors + mark, work.starts + mark)


@compiled
def _gated(model: Model, work: Work, linear: int, first: int, rows: int, tile: int, tiles: int, results: int) -> None:
    """Tiles of gates, each with a tile of what it lets through behind it, become inputs of the next layer."""
    group, in_steps = tile // 4, of_linear(model, linear + 1, KIND) == INT8
    apart = VECTOR * of_linear(model, linear, TASK)
    for row in range(rows):
        gates = results + row * apart
        out = work.floats + 4 * ((work.rows + first + row) * work.widest + GROUP * group)
        for _ in range(tiles // 2):
            if model.gelu:
                gelu_gate(gates, gates + VECTOR, out)
            else:
                silu_gate(gates, gates + VECTOR, out)
            gates, out = gates + 2 * VECTOR, out + VECTOR
        if in_steps:
            _in_steps(work, 1, first + row, group, tiles // 4)


@compiled
def _multiply(
    model: Model, work: Work, linear: int, first: int, rows: int, tile: int, tiles: int, out: int, across: int, add: int
) -> None:
    """Rows from `first` on of what a layer reads, times some tiles, to `out` or added to what stands there."""
    groups, size = of_linear(model, linear, GROUPS), of_linear(model, linear, BYTES)
    row = (work.rows if linear % LINEARS == CLOSE else 0) + first
    marks = work.widest // GROUP
    x, stride = work.floats + 4 * row * work.widest, 4 * work.widest
    if of_linear(model, linear, KIND) == INT8:
        x, stride = work.steps + row * work.widest, work.widest
    call_product(
        of_linear(model, linear, PRODUCT), 0, size, of_linear(model, linear, WEIGHT) + tile * groups * size,
        of_linear(model, linear, SCALES) + tile * groups * 2 * LANES, groups, x, stride, work.factors + 4 * row * marks,
        work.starts + 4 * row * marks, 4 * marks, of_linear(model, linear, BIAS) + VECTOR * tile, out, across, add,
        rows, tiles,
    )  # fmt: skip
