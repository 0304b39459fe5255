"""Attention over a batch that is one long row, without padding.

All other layers of an encoder treat each token by itself; only attention has to know where an input ends. Rows of the
same length, which are adjacent because the batch is sorted, are attended in one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

NAME = "ark_unpadded"
"""The name of the attention function in transformers. It has no mask function, so transformers makes no masks."""


class UnsupportedModel(Exception):
    """The model needs something from attention that this function does not do."""


@dataclass(frozen=True)
class Run:
    """Adjacent rows of the same length."""

    start: int
    """The index of the first token."""
    count: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.count * self.length


def runs(lengths: Sequence[int]) -> list[Run]:
    """The runs in a batch whose rows have these lengths."""
    found: list[Run] = []
    start = first = 0
    for index, length in enumerate(lengths):
        if index + 1 == len(lengths) or lengths[index + 1] != length:
            run = Run(start, index + 1 - first, length)
            found.append(run)
            start, first = run.end, index + 1
    return found


def unpadded_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    ark_runs: Sequence[Run] | None = None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of (1, heads, tokens, head size); returns (1, tokens, heads, head size)."""
    if ark_runs is None or attention_mask is not None:
        raise UnsupportedModel("its layers do not hand on what attention has to know")
    if sliding_window is not None or options.get("softcap") is not None or options.get("s_aux") is not None:
        raise UnsupportedModel("its attention has windows, caps or sinks")
    _, heads, tokens, size = query.shape
    # (tokens, heads, size), as the projections left them in memory.
    rows = [part.transpose(1, 2).reshape(tokens, -1, size) for part in (query, key, value)]
    parts = []
    for run in ark_runs:
        q, k, v = (part[run.start : run.end].view(run.count, run.length, -1, size).transpose(1, 2) for part in rows)
        out = sdpa(q, k, v, scale=scaling, enable_gqa=k.shape[1] != heads)
        parts.append(out.transpose(1, 2).reshape(run.end - run.start, heads, size))
    return (torch.cat(parts) if len(parts) > 1 else parts[0])[None], None
