"""Attention written out, for models whose scores are capped or compete with sinks: SDPA can do neither."""

from __future__ import annotations

import torch


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    *,
    scale: float,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """Like SDPA: query (1, heads, new, head_dim), key and value (1, kv heads, read, head_dim), returns query's shape.

    `mask` (new, read) is added to the scores after they are capped to -softcap..softcap; `sinks` (heads) are scores
    that take a share of the softmax and give no value.
    """
    _, heads, new, head_dim = query.shape
    kv_heads, read = key.shape[1], key.shape[2]
    # Queries that share a KV head stand in one matrix, so that keys need not be repeated.
    together = query.reshape(1, kv_heads, heads // kv_heads * new, head_dim)
    scores = (torch.matmul(together, key.transpose(2, 3)) * scale).view(1, heads, new, read)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if mask is not None:
        scores = scores + mask
    if sinks is not None:
        column = sinks.to(scores.dtype).view(1, heads, 1, 1).expand(1, heads, new, 1)
        scores = torch.cat((scores, column), dim=-1)
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32)[..., :read].to(value.dtype)
    return torch.matmul(weights.reshape(1, kv_heads, -1, read), value).view(1, heads, new, head_dim)
