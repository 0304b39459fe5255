"""Ways to compute attention. Which is faster depends on the machine and on the heads, and is measured at open."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

from ark_backends.kit.packed import seconds
from ark_backends.torch_chat import blocks

FASTER = 0.95
"""Share of the usual way's time above which that one is used."""

TOLERANCE = 1e-4
"""Relative error above which the usual way is used."""

ROUNDS = 5
"""Runs of each way that are timed; the best counts."""

LONGEST = 0.3
"""Seconds after which no further round begins, where the machine is busy."""

SHORT = 1024
"""Tokens up to which a way that is for short histories is used."""

COLD = 48 << 20
"""Bytes of keys and values that are read in turn: more than the caches hold, as in a step of many sequences."""


@dataclass(frozen=True)
class Ways:
    """What is used beside SDPA with the queries of a KV head in one matrix, which every machine has."""

    blocks: bool = False
    """`blocks`, for pieces that are worth it."""
    each_up_to: int = 0
    """A single token's queries are each attended by themselves where there are so many tokens to read, or fewer."""


_known: dict[tuple[int, int, int, int], Ways] = {}
_measuring = threading.Lock()
"""Models open at the same time; measurements would slow each other."""


def measured(heads: int, kv_heads: int, head_dim: int, threads: int) -> Ways:
    """The ways for such heads in float32 on this machine, with the `threads` that torch computes with now: measured
    once, in some 100 ms."""
    key = (heads, kv_heads, head_dim, threads)
    with _measuring, torch.inference_mode():
        if key not in _known:
            short = SHORT if kv_heads < heads and _each_is_faster(heads, kv_heads, head_dim) else 0
            _known[key] = Ways(blocks=_blocks_are_faster(heads, kv_heads, head_dim), each_up_to=short)
        return _known[key]


def _blocks_are_faster(heads: int, kv_heads: int, head_dim: int) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    past, new = 1984, 64
    query = torch.randn(1, heads, new, head_dim)
    key, value = torch.randn(2, 1, kv_heads, past + new, head_dim).unbind(0)
    mask = torch.zeros(new, past + new)
    mask.masked_fill_(torch.arange(past + new) > torch.arange(past, past + new)[:, None], float("-inf"))
    planned = blocks.blocks(past, new, None, heads // kv_heads)

    def ours() -> torch.Tensor:
        return blocks.attend(planned, query, key, value, None)

    def usual() -> torch.Tensor:
        return sdpa(query, key, value, attn_mask=mask, enable_gqa=True).transpose(1, 2)

    try:
        error = torch.linalg.vector_norm(ours() - usual()) / torch.linalg.vector_norm(usual())
    except (AttributeError, RuntimeError):
        # The product is an operation of torch's compiler, and may be gone in another version or build.
        return False
    return float(error) <= TOLERANCE and _faster(ours, usual)


def _each_is_faster(heads: int, kv_heads: int, head_dim: int) -> bool:
    # The queries of a KV head together read its keys once, but two threads cannot share three KV heads evenly.
    length, capacity = 224, 256
    pairs = max(1, COLD // (2 * 4 * kv_heads * capacity * head_dim))
    kept = torch.zeros(pairs, 2, 1, kv_heads, capacity, head_dim).narrow(4, 0, length)
    rows = [pair.unbind(0) for pair in kept.unbind(0)]
    each = torch.randn(1, heads, 1, head_dim)
    together = each.view(1, kv_heads, heads // kv_heads, head_dim)

    def ours() -> None:
        for key, value in rows:
            sdpa(each, key, value, enable_gqa=True)

    def usual() -> None:
        for key, value in rows:
            sdpa(together, key, value)

    return _faster(ours, usual)


def _faster(ours: Callable[[], object], usual: Callable[[], object]) -> bool:
    # The best of several, taken in turns: a server that starts does other things beside this.
    end = time.monotonic() + LONGEST
    mine = theirs = float("inf")
    for _ in range(ROUNDS):
        mine, theirs = min(mine, seconds(ours)), min(theirs, seconds(usual))
        if time.monotonic() > end:
            break
    return mine <= FASTER * theirs
