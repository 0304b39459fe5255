"""The dynamic generator of exllamav2, and how its models are loaded.

Importing this module imports exllamav2; `ark_backends.exllama.opening` prepares for that.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import exllamav2
import torch
from exllamav2 import ExLlamaV2, ExLlamaV2Config
from exllamav2.generator import ExLlamaV2DynamicGenerator, ExLlamaV2DynamicJob, ExLlamaV2Sampler, dynamic
from exllamav2.generator.filters import ExLlamaV2Filter

from ark.config import ModelConfig
from ark.engines.chat import SamplingParams
from ark_backends.exllama import paged_attention
from ark_backends.exllama.generator import GREEDY, Ended, Generator
from ark_backends.exllama.loading import check_vocabulary, context_length, fitting_tokens, free_bytes
from ark_backends.exllama.options import PAGE, ExLlamaV2Options
from ark_backends.exllama.pages import rooted
from ark_backends.exllama.reply import Mask, Reply
from ark_backends.exllama.requirements import weights_bytes
from ark_backends.exllama.tracked import Tracked

log = logging.getLogger("ark.exllama")

CACHES = {
    "fp16": exllamav2.ExLlamaV2Cache,
    "q8": exllamav2.ExLlamaV2Cache_Q8,
    "q6": exllamav2.ExLlamaV2Cache_Q6,
    "q4": exllamav2.ExLlamaV2Cache_Q4,
}

dynamic._tensor_hash_checksum = rooted(dynamic._tensor_hash_checksum)


class Job(Tracked, ExLlamaV2DynamicJob):  # type: ignore[misc]
    """A job of exllamav2 for one reply, or for a part of it."""

    def allocate_pages(self) -> None:
        # The generator evicts the least recently used pages, which these serial numbers decide.
        wanted = self.sequences[0].page_hashes
        for serial, page in enumerate(self.pages.order(self.reply.job.session, wanted)):
            page.access_serial = serial
        super().allocate_pages()


class GrammarFilter(ExLlamaV2Filter):  # type: ignore[misc]
    """A grammar's mask, prepared on a thread of the generator's while the GPU computes.

    The reply's `SamplingState` feeds the grammar its tokens.
    """

    def __init__(self, mask: Mask) -> None:
        super().__init__(None, None)
        self._mask = mask

    def begin(self, prefix_str: str) -> None:
        pass

    def feed(self, token: Any) -> None:
        pass

    def use_background_worker(self) -> bool:
        return True

    def can_mask_logits(self) -> bool:
        return True

    def prepare_logit_mask(self) -> bool:
        self._mask.prepare()
        return True

    def mask_logits(self, logits: torch.Tensor) -> torch.Tensor:
        return self._mask.apply(logits[None])[0]


class V2(Generator):
    """exllamav2. A long reply has several jobs, each with the pages of `reserve` tokens."""

    package_generator = ExLlamaV2DynamicGenerator

    def begin(self, reply: Reply) -> None:
        self._begin(reply, list(reply.job.prompt))

    def step(self) -> Sequence[Ended]:
        ended: list[Ended] = []
        for result in self._generator.iterate():
            if not result["eos"]:
                continue
            reply: Reply = result["identifier"]
            if result["eos_reason"] == "stop_token":
                ended.append((reply, "stop"))
                continue
            ids = reply.run.ids
            if len(ids) - len(reply.job.prompt) >= reply.job.max_tokens:
                ended.append((reply, "length"))
            else:
                # It has used the pages set aside for it, and goes on before all others, on the pages that it left.
                self._begin(reply, ids, rng=reply.run.rng)
                pending = self._generator.pending_jobs
                pending.insert(0, pending.pop())
        return ended

    def _begin(self, reply: Reply, ids: Sequence[int], rng: random.Random | None = None) -> None:
        state, left = reply.sampling, reply.job.max_tokens - (len(ids) - len(reply.job.prompt))
        run = Job(
            input_ids=torch.tensor([ids], dtype=torch.long),
            # When it drafts, the generator ends this many tokens early.
            max_new_tokens=min(left, self._reserve) + self._draft_tokens,
            gen_settings=settings(reply.job.sampling),
            seed=state.seed,
            stop_conditions=list(reply.job.stop_token_ids),
            filters=[] if state.mask is None else [GrammarFilter(state.mask)],
            identifier=reply,
        )
        run.reply, run.pages = reply, self.pages
        if rng is not None:
            run.rng = rng
        self._generator.enqueue(run)
        if reply.run is not None:
            run.begun = True
        reply.run = run

    def _more_options(self) -> dict[str, Any]:
        return {"num_draft_tokens": self._draft_tokens, "max_q_size": max(8, self._draft_tokens + 1)}

    def _page_table(self) -> Any:
        return self._generator

    def _end_threads(self) -> None:
        for pool in (self._generator.sampling_pool, self._generator.filter_pool):
            pool.shutdown(wait=True)


def settings(params: SamplingParams) -> Any:
    """The generator's settings for temperature, top_k, top_p, min_p and the draw, in this order.

    Its own defaults differ. Penalties and bias are `SamplingState`'s.
    """
    greedy = params.temperature < GREEDY
    return ExLlamaV2Sampler.Settings(
        token_repetition_penalty=1.0,
        temperature=1.0 if greedy else params.temperature,
        top_k=1 if greedy else params.top_k,
        top_p=0.0 if greedy else params.top_p,
        # The generator ignores a value of 1.
        min_p=0.0 if greedy else min(params.min_p, 0.999999),
    )


def open_v2(model: ModelConfig, options: ExLlamaV2Options, path: Path, draft: Path | None) -> tuple[V2, int]:
    """A loaded model with its generator, and its context length. Raises ConfigError, and whatever exllamav2 does."""
    log.info("%s: paged attention by %s", model.name, paged_attention.install())
    config = _config(path, options)
    longest = int(config.max_seq_len * (options.rope_scale or 1.0) * (options.rope_alpha or 1.0))
    config.max_seq_len = min(model.context_length or longest, longest)
    # Before the model, so that the cache gets what it leaves.
    draft_model = None if draft is None else _draft_model(model, draft, config, options)
    loaded, cache = _load(model, config, options, draft_model)
    drafting = None
    if draft_model is not None:
        drafting = draft_model, CACHES[options.cache_type](draft_model, max_seq_len=cache.max_seq_len)
    context = context_length(model, config.max_seq_len, cache.max_seq_len, options.draft_tokens if drafting else 0)
    page_bytes = PAGE * sum(_token_bytes(one) for one in (cache, *(drafting or ())[1:]))
    return V2(loaded, cache, options, page_bytes=page_bytes, draft=drafting), context


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


def _load(model: ModelConfig, config: Any, options: ExLlamaV2Options, draft_model: Any | None) -> tuple[Any, Any]:
    loaded = ExLlamaV2(config)
    kind = CACHES[options.cache_type]
    split = None if options.gpu_split is None else list(options.gpu_split)

    def tokens(reserved: int = 0) -> int:
        """Tokens of KV that the free memory holds, once `reserved` bytes more are used."""
        if options.cache_tokens is not None:
            return options.cache_tokens
        models = [loaded] if draft_model is None else [loaded, draft_model]
        token_bytes = sum(_token_bytes(kind(one, max_seq_len=PAGE, lazy=True)) for one in models)
        return fitting_tokens(model, free_bytes("exllamav2") - reserved, token_bytes)

    if options.tensor_parallel:
        loaded.load_tp(split, expect_cache_tokens=options.cache_tokens or 0, expect_cache_base=kind)
        return loaded, exllamav2.ExLlamaV2Cache_TP(loaded, base=kind, max_seq_len=tokens())
    if split is not None or torch.cuda.device_count() == 1:
        loaded.load(split)
        return loaded, kind(loaded, max_seq_len=tokens())
    # The cache is allocated while the model is loaded, so its size has to be known before.
    cache = kind(loaded, max_seq_len=tokens(weights_bytes([config.model_dir])), lazy=True)
    loaded.load_autosplit(cache)
    return loaded, cache


def _draft_model(model: ModelConfig, path: Path, config: Any, options: ExLlamaV2Options) -> Any:
    mine = _config(path, options)
    check_vocabulary(model, mine.vocab_size, config.vocab_size)
    # Positions beyond its training only make its guesses worse.
    mine.max_seq_len = max(mine.max_seq_len, config.max_seq_len)
    draft_model = ExLlamaV2(mine)
    draft_model.load()
    return draft_model


def _token_bytes(cache: Any) -> int:
    """Bytes of one token in all layers, and in the 16-bit copy of one layer that quantized caches work on."""
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
