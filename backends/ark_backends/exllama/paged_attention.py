"""Attention over paged KV for exllamav2, where the package flash-attn is not installed.

exllamav2 batches and shares prompts only with a paged attention. It takes one from flash-attn, which has to be built
for each version of torch. torch has the same kernels since 2.13. Before that, and for what they lack (soft caps, older
GPUs), the pages are copied together for torch's ordinary attention.

The functions have the names, shapes and meanings of flash-attn's: q (batch, new, heads, size), caches (pages, page,
KV heads, size) with a table of each row's pages, or (batch, tokens, KV heads, size) without one.
"""

from __future__ import annotations

import inspect
import logging
from functools import cache

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

log = logging.getLogger("ark.exllama")

QUERIES = 128
"""New tokens whose scores are computed at a time, where a soft cap needs them."""

OFF = (-1, -1)
"""No window."""


def install() -> str:
    """Give exllamav2 a paged attention, unless it has one with all features. Returns the name of the one in use."""
    from exllamav2 import attn  # noqa: PLC0415 - what it finds depends on the environment that is set before

    found = (
        attn.has_flash_attn_with_paged,
        getattr(attn, "has_flash_attn_with_window", False),
        getattr(attn, "has_flash_attn_with_softcap", False),
    )
    if not all(found):
        attn.flash_attn_with_kvcache = flash_attn_with_kvcache
        attn.flash_attn_func = flash_attn_func
        attn.has_flash_attn = attn.has_flash_attn_with_paged = True
        attn.has_flash_attn_with_window = attn.has_flash_attn_with_softcap = True
    if attn.flash_attn_with_kvcache is not flash_attn_with_kvcache:
        return "flash-attn"
    if torch.cuda.is_available() and has_kernels(torch.device("cuda", 0)):
        return "torch's own kernels"
    return "torch, with a copy of the pages: flash-attn 2.5.7 or torch 2.13 on a GPU since Ampere is faster"


def flash_attn_with_kvcache(
    *,
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    k: torch.Tensor | None = None,
    v: torch.Tensor | None = None,
    cache_seqlens: torch.Tensor | int = 0,
    block_table: torch.Tensor | None = None,
    causal: bool = True,
    softmax_scale: float | None = None,
    window_size: tuple[int, int] = OFF,
    softcap: float = 0.0,
) -> torch.Tensor:
    """Attention of new tokens to the `cache_seqlens` (batch) tokens before them and to each other.

    `k` and `v` (batch, new, KV heads, size) are first appended to the caches. Without them, the caches already have the
    new tokens, and `cache_seqlens` counts them.
    """
    lengths = torch.as_tensor(cache_seqlens, device=q.device).expand(q.shape[0])
    if k is not None and v is not None:
        _append(k_cache, k, lengths, block_table)
        _append(v_cache, v, lengths, block_table)
        lengths = lengths + q.shape[1]
    if block_table is not None and not softcap and q.is_cuda and has_kernels(q.device):
        return _by_kernel(q, k_cache, v_cache, lengths, block_table, scale=softmax_scale, window=window_size)
    if block_table is not None:
        pages = block_table.long()
        k_cache = k_cache[pages].flatten(1, 2)
        v_cache = v_cache[pages].flatten(1, 2)
    else:
        k_cache, v_cache = k_cache[: q.shape[0]], v_cache[: q.shape[0]]
    return _by_rows(q, k_cache, v_cache, lengths, scale=softmax_scale, window=window_size, softcap=softcap)


def flash_attn_func(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = True,
    softmax_scale: float | None = None,
    window_size: tuple[int, int] = OFF,
    softcap: float = 0.0,
) -> torch.Tensor:
    """Causal attention of the last tokens of k and v (batch, tokens, KV heads, size)."""
    if not causal:
        raise NotImplementedError("attention that is not causal")
    lengths = torch.full((q.shape[0],), k.shape[1], device=q.device)
    return _by_rows(q, k, v, lengths, scale=softmax_scale, window=window_size, softcap=softcap)


@cache
def has_kernels(device: torch.device) -> bool:
    """Whether torch has right kernels for paged attention on a device."""
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 - it is not in every torch

        if "block_table" not in inspect.signature(varlen_attn).parameters:
            return False
        if not all(_is_right(device, new, window) for new, window in ((1, OFF), (7, OFF), (7, (100, 100)))):
            log.warning("torch's kernels for paged attention are wrong on %s and are not used", device)
            return False
    except Exception as error:  # noqa: BLE001 - a GPU, or a torch, without them fails in its own way
        log.info("torch has no kernels for paged attention on %s: %s", device, error)
        return False
    return True


def _is_right(device: torch.device, new: int, window: tuple[int, int]) -> bool:
    made = torch.Generator(device).manual_seed(new)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=made, device=device, dtype=torch.float16)

    q, keys, values = random(2, new, 4, 64), random(5, 256, 2, 64), random(5, 256, 2, 64)
    table = torch.tensor([[3, 1], [0, 4]], device=device, dtype=torch.int32)
    lengths = torch.tensor([300, 17], device=device, dtype=torch.int32)
    found = _by_kernel(q, keys, values, lengths, table, scale=None, window=window)
    gathered = [cached[table.long()].flatten(1, 2) for cached in (keys, values)]
    right = _by_rows(q, gathered[0], gathered[1], lengths, scale=None, window=window)
    return bool(torch.allclose(found, right, atol=0.01, rtol=0.01))


def _by_kernel(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    lengths: torch.Tensor,
    block_table: torch.Tensor,
    *,
    scale: float | None,
    window: tuple[int, int],
) -> torch.Tensor:
    from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415

    rows, new, heads, size = q.shape
    used = lengths.to(torch.int32)
    out: torch.Tensor = varlen_attn(
        q.reshape(rows * new, heads, size),
        k_cache,
        v_cache,
        torch.arange(0, (rows + 1) * new, new, device=q.device, dtype=torch.int32),
        pad(used.cumsum(0, dtype=torch.int32), (1, 0)),
        new,
        # Not the longest row, because reading that would wait for the GPU.
        block_table.shape[1] * k_cache.shape[1],
        scale=scale,
        window_size=(window[0], 0),
        enable_gqa=heads != k_cache.shape[2],
        seqused_k=used,
        block_table=block_table.to(torch.int32).contiguous(),
    )
    return out.view(rows, new, heads, size)


def _by_rows(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lengths: torch.Tensor,
    *,
    scale: float | None,
    window: tuple[int, int],
    softcap: float = 0.0,
) -> torch.Tensor:
    """Attention to the first `lengths` tokens of k and v (batch, tokens, KV heads, size), the new ones last."""
    new, tokens = q.shape[1], k.shape[1]
    places = torch.arange(tokens, device=q.device)
    own = (lengths[:, None] - new + torch.arange(new, device=q.device))[:, :, None]
    allowed = places <= own
    if window[0] >= 0:
        allowed &= places >= own - window[0]
    groups = q.shape[2] // k.shape[2]
    # Repeated, because torch's fast kernels take either a mask or fewer KV heads.
    queries, keys, values = (
        tensor.transpose(1, 2) for tensor in (q, k.repeat_interleave(groups, 2), v.repeat_interleave(groups, 2))
    )
    mask = allowed[:, None]
    if not softcap:
        return scaled_dot_product_attention(queries, keys, values, mask, scale=scale).transpose(1, 2)
    scale = q.shape[3] ** -0.5 if scale is None else scale
    parts = []
    for start in range(0, new, QUERIES):
        piece = slice(start, start + QUERIES)
        scores = softcap * torch.tanh((queries[:, :, piece] @ keys.transpose(2, 3)).float() * (scale / softcap))
        weights = scores.masked_fill(~mask[:, :, piece], float("-inf")).softmax(-1)
        parts.append(weights.to(values.dtype) @ values)
    return torch.cat(parts, dim=2).transpose(1, 2)


def _append(cache: torch.Tensor, fresh: torch.Tensor, lengths: torch.Tensor, block_table: torch.Tensor | None) -> None:
    """Append new keys or values (batch, new, KV heads, size) to each row."""
    rows, new = fresh.shape[:2]
    places = lengths[:, None].long() + torch.arange(new, device=fresh.device)
    if block_table is None:
        cache[torch.arange(rows, device=fresh.device)[:, None], places] = fresh
        return
    page = cache.shape[1]
    slots = block_table.long().gather(1, places // page) * page + places % page
    cache.view(-1, *cache.shape[2:])[slots] = fresh
