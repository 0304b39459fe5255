"""Loading a model into exllamav2."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import exllamav2
import torch
from exllamav2 import ExLlamaV2, ExLlamaV2Config

from ark.config import ModelConfig
from ark_backends.exllama import paged_attention
from ark_backends.exllama.memory import ROOM
from ark_backends.exllama.opening import check_vocabulary, context_length, fitting_tokens, free_bytes, loading
from ark_backends.exllama.options import PAGE, ExLlamaV2Options
from ark_backends.exllama.v2 import V2

log = logging.getLogger("ark.exllama")

CACHES = {
    "fp16": exllamav2.ExLlamaV2Cache,
    "q8": exllamav2.ExLlamaV2Cache_Q8,
    "q6": exllamav2.ExLlamaV2Cache_Q6,
    "q4": exllamav2.ExLlamaV2Cache_Q4,
}


def open_v2(model: ModelConfig, options: ExLlamaV2Options, path: Path, draft: Path | None) -> tuple[V2, int]:
    """A loaded model with its generator, and its context length. Raises ConfigError."""
    log.info("%s: paged attention by %s", model.name, paged_attention.install())
    with loading("exllamav2", model, path):
        config = _config(path, options)
        longest = int(config.max_seq_len * (options.rope_scale or 1.0) * (options.rope_alpha or 1.0))
        config.max_seq_len = min(model.context_length or longest, longest)
        # First, so that the cache gets what it leaves.
        drafting = None if draft is None else _draft_model(model, draft, config, options)
        loaded, cache = _load(model, config, options, drafting)
        guesser = None
        if drafting is not None:
            guesser = drafting, CACHES[options.cache_type](drafting, max_seq_len=cache.max_seq_len)
    context = context_length(model, config.max_seq_len, cache.max_seq_len, options.draft_tokens if guesser else 0)
    face = V2(
        loaded,
        cache,
        max_running=options.max_running,
        prefill_chunk=options.prefill_chunk,
        reserve=options.reserve,
        page_bytes=PAGE * sum(_token_bytes(one) for one in (cache, *(guesser or ())[1:])),
        draft=guesser,
        draft_tokens=options.draft_tokens,
    )
    return face, context


def _config(path: Path, options: ExLlamaV2Options) -> Any:
    config = ExLlamaV2Config()
    config.model_dir = str(path)
    config.prepare()
    config.arch_compat_overrides(quiet=True)
    if config.no_flash_attn and config.arch.lm.eager_attn_only:
        raise ValueError(f"the architecture {config.architecture} needs an attention that knows no pages")
    # Its own flash-attn may be off; the attention of pages never is.
    config.no_flash_attn = False
    config.max_input_len = options.prefill_chunk
    config.max_attention_size = options.prefill_chunk**2
    if options.rope_scale is not None:
        config.scale_pos_emb = options.rope_scale
    if options.rope_alpha is not None:
        config.scale_alpha_value = options.rope_alpha
    return config


def _load(model: ModelConfig, config: Any, options: ExLlamaV2Options, drafting: Any | None) -> tuple[Any, Any]:
    loaded = ExLlamaV2(config)
    kind = CACHES[options.cache_type]
    if options.tensor_parallel:
        loaded.load_tp(_split(options), expect_cache_tokens=options.cache_tokens or 0, expect_cache_base=kind)
        tokens = options.cache_tokens or _tokens(model, kind, loaded, drafting)
        return loaded, exllamav2.ExLlamaV2Cache_TP(loaded, base=kind, max_seq_len=tokens)
    if options.gpu_split is not None or torch.cuda.device_count() == 1:
        loaded.load(_split(options))
        tokens = options.cache_tokens or _tokens(model, kind, loaded, drafting)
        return loaded, kind(loaded, max_seq_len=tokens)
    # The cache is laid out while the model is loaded, so what it may take has to be known before.
    weights = sum(file.stat().st_size for file in Path(config.model_dir).glob("*.safetensors"))
    tokens = options.cache_tokens or _tokens(model, kind, loaded, drafting, taken=weights)
    cache = kind(loaded, max_seq_len=tokens, lazy=True)
    loaded.load_autosplit(cache)
    return loaded, cache


def _draft_model(model: ModelConfig, path: Path, config: Any, options: ExLlamaV2Options) -> Any:
    mine = _config(path, options)
    check_vocabulary(model, mine.vocab_size, config.vocab_size)
    # Positions that it was not trained for only make its guesses worse.
    mine.max_seq_len = max(mine.max_seq_len, config.max_seq_len)
    drafting = ExLlamaV2(mine)
    drafting.load()
    return drafting


def _split(options: ExLlamaV2Options) -> list[float] | None:
    return None if options.gpu_split is None else list(options.gpu_split)


def _tokens(model: ModelConfig, kind: Any, loaded: Any, drafting: Any | None, taken: int = 0) -> int:
    """Tokens of KV that the free memory holds, once `taken` bytes more are used."""
    free = free_bytes() - taken - ROOM["exllamav2"] * torch.cuda.device_count()
    models = [loaded] if drafting is None else [loaded, drafting]
    return fitting_tokens(model, free, sum(_token_bytes(kind(one, max_seq_len=PAGE, lazy=True)) for one in models))


def _token_bytes(cache: Any) -> int:
    """Bytes of one token in all layers, and in the copy of one layer in 16 bits that quantized caches work on."""
    caches = getattr(cache, "caches", None)
    if caches is not None:
        return sum(_token_bytes(one) for one in caches if one is not None)
    heads, size = cache.num_key_value_heads, cache.head_dim
    number = torch.empty((), dtype=cache.dtype).element_size()
    layer = heads * (size // cache.weights_per_element_k + size // cache.weights_per_element_v) * number
    copy = 0
    if cache.has_scales:
        layer += 2 * heads * (size // 32) * 2
        copy = 2 * heads * size * 2
    return int(cache.num_hidden_layers * layer + copy)
