"""Loading a model into exllamav3."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import exllamav3
import torch

from ark.config import ModelConfig
from ark_backends.exllama.memory import ROOM
from ark_backends.exllama.opening import check_vocabulary, context_length, fitting_tokens, free_bytes, loading
from ark_backends.exllama.options import PAGE, ExLlamaV3Options
from ark_backends.exllama.v3 import V3

log = logging.getLogger("ark.exllama")


def open_v3(model: ModelConfig, options: ExLlamaV3Options, path: Path, draft: Path | None) -> tuple[V3, int]:
    """A loaded model with its generator, and its context length. Raises ConfigError."""
    with loading("exllamav3", model, path):
        loaded, drafting = _model(path, options), None if draft is None else _model(draft, options)
        if drafting is not None:
            check_vocabulary(model, drafting.config.vocab_size, loaded.config.vocab_size)
        models = [one for one in (loaded, drafting) if one is not None]
        # Caches are laid out while a model is loaded, so what they may take has to be known before.
        token_bytes = sum(_token_bytes(one, options) for one in models)
        tokens = options.cache_tokens or _tokens(model, models, token_bytes)
        caches = [_cache(one, options, tokens, history=options.draft_tokens if drafting else 0) for one in models]
        for one in reversed(models):
            _load(one, options, drafting if one is loaded else None)
        if options.warm_up:
            loaded.warmup(cache=caches[0], max_chunk_size=options.prefill_chunk)
    longest = int(loaded.config.max_position_embeddings)
    # One more than what is guessed: the generator keeps a place free behind a reply.
    context = context_length(model, longest, tokens, 1 + (options.draft_tokens if drafting else 0))
    face = V3(
        loaded,
        caches[0],
        max_running=options.max_running,
        prefill_chunk=options.prefill_chunk,
        reserve=options.reserve,
        page_bytes=PAGE * token_bytes,
        draft=None if drafting is None else (drafting, caches[1]),
        draft_tokens=options.draft_tokens,
    )
    return face, context


def _model(path: Path, options: ExLlamaV3Options) -> Any:
    return exllamav3.Model.from_config(exllamav3.Config.from_directory(str(path)), swa_full=options.full_window)


def _load(model: Any, options: ExLlamaV3Options, drafting: Any | None) -> None:
    model.load(
        use_per_device=None if options.gpu_split is None else list(options.gpu_split),
        tensor_p=options.tensor_parallel,
        max_chunk_size=options.prefill_chunk,
        max_batch_size=options.max_running,
        draft_model=drafting,
    )


def _cache(model: Any, options: ExLlamaV3Options, tokens: int, history: int = 0) -> Any:
    kind: dict[str, Any] = {"layer_type": exllamav3.CacheLayer_fp16}
    if options.cache_type != "fp16":
        bits = int(options.cache_type[1:])
        kind = {"layer_type": exllamav3.CacheLayer_quant, "k_bits": bits, "v_bits": bits}
    return exllamav3.Cache(
        model, max_num_tokens=tokens, max_batch_size=options.max_running, max_history=history, **kind
    )


def _token_bytes(model: Any, options: ExLlamaV3Options) -> int:
    """Bytes of one token in all layers."""
    probe = _cache(model, options, PAGE)
    size = sum(int(layer.storage_size()) for layer in probe.layers.values())
    probe.detach_from_model()
    return -(-size // PAGE)


def _tokens(model: ModelConfig, models: list[Any], token_bytes: int) -> int:
    """Tokens of KV that fit beside the weights."""
    weights = sum(file.stat().st_size for one in models for file in Path(one.config.directory).glob("*.safetensors"))
    return fitting_tokens(model, free_bytes() - weights - ROOM["exllamav3"] * torch.cuda.device_count(), token_bytes)
