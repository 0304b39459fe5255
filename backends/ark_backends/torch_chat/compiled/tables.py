"""What a pass reads and writes, as the kernels take it: numbers, and addresses of arrays.

Arrays are rows behind each other, of float32 where nothing else is said. Addresses and not arrays, because a compiler
works on every array that a function is handed as on a dozen numbers. Who makes them keeps the arrays alive.
"""

from __future__ import annotations

from typing import Any, NamedTuple

INT8, FLOAT32, BFLOAT16 = 0, 1, 2
"""Kinds of a linear layer's weight."""

GROUP = 32
"""Inputs of a linear layer that share a scale, where they are in 8 bits. The width of every row is a multiple."""

LINEARS = 4
"""Linear layers in a layer."""

READ, WRITE, OPEN, CLOSE = range(LINEARS)

PHASES = 4
"""Phases for each linear layer: keys and values stored and attention before it, where that is its place; its inputs;
its outputs."""

KEYS = 64
"""Keys of a block: their scores are held at a time."""

PART = 1024
"""Keys of a part, which one task attends to for a single token. Parts are added up in their order."""

ROWS = 384
"""Rows that one task computes at most."""

PAIRS = 6
"""Queries, of any tokens and heads that share a KV head, that are compared with a block of keys together."""

STATE = 32
"""Numbers of what a query has found, behind the values: sums of weights (16), the largest score, the sum of all."""

KIND, PRODUCT, BYTES, GROUPS, TILES, WEIGHT, SCALES, BIAS, TASK = range(9)
"""Columns of the table of linear layers, int64: the kind; the address of the function that multiplies with it; bytes of
a group of inputs of one tile; groups; tiles of outputs; the addresses of weight, scales and biases; tiles of a task."""

ADDRESS, STRIDE, PAST, FIRST, COUNT = range(5)
"""Columns of the table of sequences, int64: the address of its KV, tokens from one head's keys to the next one's,
tokens in it, its first row, its number of rows."""


class Model(NamedTuple):
    """What stays the same from pass to pass."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: Any
    """Numbers between layers that are the model's own, float32: rows are filled up with zeros."""
    width: int
    """Numbers of such a row."""
    gelu: int
    """Whether gates are activated by GELU, instead of SiLU."""
    scale: Any
    """Of the scores, float32."""
    softcap: Any
    """Of the scores, float32; 0 for none."""
    epsilon: Any
    """Of all normalisations, float32."""
    gains: int
    """Of the normalisations (2 * layers + 1, width): two in each layer and the last."""
    post_gains: int
    """Of those behind attention and MLP (2 * layers, width); 0 where there are none."""
    head_gains: int
    """Of the normalisation of each query and key (layers, 2, head_dim); 0 where there is none."""
    windows: int
    """Tokens that a layer attends to (layers), int64; 0 for all."""
    rotations: int
    """Which of the tables of cosines and sines a layer takes (layers), int64."""
    block: int
    """The function that compares queries with a block of keys."""
    linears: int
    """The table of linear layers in the order of computation: of all layers, then the head."""


class Work(NamedTuple):
    """Room for the numbers of a pass. The first axis is that of rows, or of threads where it says so."""

    rows: int
    """Rows that there is room for."""
    parts: int
    """Parts of keys of a sequence that there is room for."""
    widest: int
    """Numbers of the widest input of a linear layer."""
    joined_width: int
    seen_width: int
    x: int
    """Between layers (width)."""
    last: int
    """The same behind the last attention, of the rows whose logits are wanted."""
    branch: int
    """What is added to `x` once it is normalised (width), where models do that."""
    floats: int
    """Inputs of linear layers (2, rows, widest): the second ones are those of the last in a layer."""
    steps: int
    """The same in 8 bits, int8."""
    factors: int
    """Of each group of steps (2, rows, widest / GROUP)."""
    starts: int
    """What the sum of each group begins at, int32."""
    joined: int
    """Queries, keys and values ((heads + 2 * kv heads) * head_dim, filled up)."""
    seen: int
    """What attention gives (heads * head_dim, filled up)."""
    partial: int
    """What single tokens find in each part of their keys (sequences, parts, heads, head_dim + STATE)."""
    results: int
    """Of each thread: gates and what they let through (ROWS, 64)."""
    queries: int
    """Of each thread: (PAIRS, head_dim)."""
    weights: int
    """Of each thread: scores and weights of a block (PAIRS, KEYS)."""
    shares: int
    """Of each thread: how much of what was found before a block remains (16)."""
    found: int
    """Of each thread: what queries have found in a part, and in all (2, PAIRS, head_dim + STATE)."""
    places: int
    """Of each thread: the first key of each query, and the one behind its last (2, PAIRS), int64."""
    turned: int
    """Of each thread: a query or key twice (2, head_dim)."""


class Inputs(NamedTuple):
    """One pass."""

    rows: int
    sequence_count: int
    wanted_count: int
    sequences: int
    """The table of sequences."""
    owners: int
    """The sequence of each row, int64."""
    wanted: int
    """Rows whose logits are wanted, in ascending order, int64."""
    chosen: int
    """Whether they are, for each row, int64."""
    cosine: int
    """(tables, rows, head_dim), as `Rope` gives them."""
    sine: int
    logits: int
    """What is computed: (wanted, tiles of the head * 16)."""
    counters: int
    """Of PHASES phases for each linear layer."""
