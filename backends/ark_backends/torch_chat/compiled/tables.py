"""What a step reads and writes, as the kernels take it: a tuple of numbers and arrays each."""

from __future__ import annotations

from typing import Any, NamedTuple

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

PART = 1024
"""Keys that one task attends to."""

BLOCK = 128
"""Keys whose scores are held at a time."""


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
