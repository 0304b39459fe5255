"""Attention of many tokens to long histories by oneDNN, in blocks of rows whose scores stay in the caches.

torch's own attention multiplies tiles of float32 by MKL, which leaves AVX-512 unused on processors that are not
Intel's (see `packed`); there this takes half of the time. The queries that share a KV head are the rows of one matrix,
so that its keys are read once for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import pad

SCORES = 1 << 21
"""Scores of a block, about: 8 MB, which a server's processor has in its caches."""

MOST_ROWS = 512
FEWEST_ROWS = 16
"""Rows of a block, where its tokens have so many queries."""

GRAIN = 128
"""Keys are read in multiples of this: with an odd rest oneDNN is slower, and has to make a kernel for each length."""

WORTH = 1 << 22
"""Products of numbers for the scores of a KV head below which the calls cost more than is gained, where this is faster
at all."""


@dataclass(frozen=True)
class Block:
    """Consecutive new tokens of a sequence and the keys that they are compared with, for all layers of a kind."""

    tokens: slice
    """Among the new ones."""
    first: int
    """The first key."""
    keys: int
    """Keys from there, counting some behind the last one, which nobody attends to."""
    shown: int
    """Keys at the beginning that every token of the block attends to."""
    hidden: torch.Tensor
    """What a token does not attend to among the others: bool (tokens, keys - shown)."""


def is_worth(new: int, read: int, group: int, head_dim: int) -> bool:
    """Whether `new` tokens that read so many, with `group` queries for each KV head, gain by this."""
    # Of a prompt's beginning torch computes only what is attended to, which is the half of it.
    return new * group * (read - new // 2) * head_dim >= WORTH and new * group >= FEWEST_ROWS


def blocks(past: int, new: int, window: int | None, group: int) -> list[Block]:
    """The blocks of `new` tokens behind `past` others, each of which has `group` queries for a KV head."""
    widest = past + new if window is None else min(past + new, window + new)
    most = max(FEWEST_ROWS, min(MOST_ROWS, SCORES // widest))
    # As many tokens in each, nearly: a small rest would cost as much as many.
    number = -(-new * group // most)
    length = -(-new // number)
    return [_block(past, begin, min(begin + length, new), window, group) for begin in range(0, new, length)]


def _block(past: int, begin: int, end: int, window: int | None, group: int) -> Block:
    first = 0 if window is None else max(0, past + begin + 1 - window)
    keys = -(-(past + end - first) // GRAIN) * GRAIN
    shown = past + begin + 1 - first if window is None else 0
    query = torch.arange(past + begin, past + end)[:, None]
    key = torch.arange(first + shown, first + keys)[None, :]
    hidden = key > query
    if window is not None:
        hidden |= key <= query - window
    return Block(slice(begin, end), first, keys, shown, hidden)


def attend(
    of: list[Block], query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
) -> torch.Tensor:
    """Attention of query (1, heads, new tokens, head_dim) to keys and values (1, kv heads, capacity, head_dim), all
    float32; returns (1, new tokens, heads, head_dim).

    Values behind the last token in the capacity have to be finite.
    """
    _, heads, new, width = query.shape
    kv_heads = key.shape[1]
    group = heads // kv_heads
    grouped = query.reshape(kv_heads, group, new, width) * (width**-0.5 if scale is None else scale)
    # As models expect it: some make views of it.
    out = query.new_empty(new, kv_heads, group, width)
    for block in of:
        count = block.tokens.stop - block.tokens.start
        rows = grouped[:, :, block.tokens].reshape(kv_heads, group * count, width)
        for head in range(kv_heads):
            scores = _product(rows[head], _keys(key[0, head], block))
            hidden = scores.view(group, count, block.keys)[:, :, block.shown :]
            hidden.masked_fill_(block.hidden, float("-inf"))
            # In place: memory that is as large and new costs more than all this.
            torch.softmax(scores, dim=-1, out=scores)
            seen = _product(scores, _keys(value[0, head], block).t())
            out[block.tokens, head] = seen.view(group, count, width).transpose(0, 1)
    return out.view(1, new, heads, width)


def _keys(rows: torch.Tensor, block: Block) -> torch.Tensor:
    """Keys or values of a block (keys, head_dim), of all that there is room for (capacity, head_dim)."""
    missing = block.first + block.keys - len(rows)
    if missing <= 0:
        return rows[block.first : block.first + block.keys]
    return pad(rows[block.first :], (0, 0, 0, missing))


def _product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`x` (rows, inputs) times the transpose of `weight` (outputs, inputs)."""
    product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
    return product
