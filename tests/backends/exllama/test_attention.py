"""Attention over pages by torch, against a plain loop."""

import pytest

pytest.importorskip("torch")

import torch

from ark_backends.exllama import paged_attention
from ark_backends.exllama.paged_attention import flash_attn_func, flash_attn_with_kvcache

KV_HEADS, HEADS, SIZE, PAGE = 2, 4, 8, 16


def plain(q, k, v, lengths, *, scale=None, window=-1, cap=0.0):
    """One query, one head at a time; each row's new tokens are the last of its `lengths`."""
    out = torch.zeros_like(q)
    for row, length in enumerate(lengths):
        for i in range(q.shape[1]):
            place = int(length) - q.shape[1] + i
            first = max(0, place - window) if window >= 0 else 0
            for head in range(HEADS):
                group = head // (HEADS // KV_HEADS)
                scores = k[row, first : place + 1, group] @ q[row, i, head] * (scale or SIZE**-0.5)
                if cap:
                    scores = cap * torch.tanh(scores / cap)
                out[row, i, head] = torch.softmax(scores, 0) @ v[row, first : place + 1, group]
    return out


def made(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("window", [-1, 20])
@pytest.mark.parametrize("cap", [0.0, 3.0])
@pytest.mark.parametrize("new", [1, 5])
def test_new_tokens_are_written_and_attend_to_their_rows_pages(window, cap, new):
    k_cache, v_cache = made(6, PAGE, KV_HEADS, SIZE, seed=1), made(6, PAGE, KV_HEADS, SIZE, seed=2)
    untouched = k_cache.clone()
    table = torch.tensor([[3, 1, 5], [0, 4, 0]], dtype=torch.int32)
    past = torch.tensor([30, 14], dtype=torch.int32)
    q, k, v = made(2, new, HEADS, SIZE), made(2, new, KV_HEADS, SIZE, seed=3), made(2, new, KV_HEADS, SIZE, seed=4)
    found = flash_attn_with_kvcache(
        q=q,
        k=k,
        v=v,
        k_cache=k_cache,
        v_cache=v_cache,
        cache_seqlens=past,
        block_table=table,
        window_size=(window, window),
        softcap=cap,
    )
    keys, values = (cache[table.long()].flatten(1, 2) for cache in (k_cache, v_cache))
    for row, start in enumerate(past.tolist()):
        assert torch.equal(keys[row, start : start + new], k[row])
        assert torch.equal(values[row, start : start + new], v[row])
    assert torch.equal(k_cache[2], untouched[2])
    assert torch.equal(k_cache[3, :14], untouched[3, :14])
    assert torch.allclose(found, plain(q, keys, values, past + new, window=window, cap=cap), atol=1e-5)


def test_tokens_that_are_in_the_pages_already_are_counted():
    k_cache, v_cache = made(4, PAGE, KV_HEADS, SIZE, seed=1), made(4, PAGE, KV_HEADS, SIZE, seed=2)
    table = torch.tensor([[2, 3]], dtype=torch.int32)
    q = made(1, 6, HEADS, SIZE)
    lengths = torch.tensor([20], dtype=torch.int32)
    found = flash_attn_with_kvcache(
        q=q, k_cache=k_cache, v_cache=v_cache, cache_seqlens=lengths, block_table=table, softmax_scale=0.3
    )
    keys, values = (cache[table.long()].flatten(1, 2) for cache in (k_cache, v_cache))
    assert torch.allclose(found, plain(q, keys, values, lengths, scale=0.3), atol=1e-5)


def test_a_cache_without_pages():
    k_cache, v_cache = made(1, 40, KV_HEADS, SIZE, seed=1), made(1, 40, KV_HEADS, SIZE, seed=2)
    q, k, v = made(1, 3, HEADS, SIZE), made(1, 3, KV_HEADS, SIZE, seed=3), made(1, 3, KV_HEADS, SIZE, seed=4)
    past = torch.tensor([11], dtype=torch.int32)
    found = flash_attn_with_kvcache(q=q, k=k, v=v, k_cache=k_cache, v_cache=v_cache, cache_seqlens=past)
    assert torch.equal(k_cache[0, 11:14], k[0])
    assert torch.allclose(found, plain(q, k_cache, v_cache, past + 3), atol=1e-5)


def test_plain_attention_is_causal_from_the_end():
    q, k, v = made(2, 3, HEADS, SIZE), made(2, 9, KV_HEADS, SIZE, seed=3), made(2, 9, KV_HEADS, SIZE, seed=4)
    assert torch.allclose(flash_attn_func(q, k, v), plain(q, k, v, [9, 9]), atol=1e-5)
    with pytest.raises(NotImplementedError):
        flash_attn_func(q, k, v, causal=False)


def test_a_cpu_has_no_kernels():
    assert not paged_attention.has_kernels(torch.device("cpu"))


@pytest.mark.gpu
def test_kernels_compute_what_the_copy_does():
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    # It compares them, also with windows and grouped heads.
    assert paged_attention.has_kernels(torch.device("cuda", 0))
