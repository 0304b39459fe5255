"""The generator of exllamav3, and how its models are loaded.

Importing this module imports exllamav3; `ark_backends.exllama.opening` prepares for that.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import exllamav3
import torch
from exllamav3.generator import job as job_module
from exllamav3.generator import pagetable
from exllamav3.generator.filter import Filter
from exllamav3.generator.sampler import (
    CustomSampler,
    SS_Argmax,
    SS_MinP,
    SS_Sample,
    SS_Temperature,
    SS_TopK,
    SS_TopP,
)

from ark.config import ModelConfig
from ark.engines.chat import SamplingParams
from ark_backends.exllama.generator import GREEDY, Ended, Generator
from ark_backends.exllama.loading import check_vocabulary, context_length, fitting_tokens, free_bytes
from ark_backends.exllama.options import PAGE, ExLlamaV3Options
from ark_backends.exllama.pages import rooted
from ark_backends.exllama.reply import Mask, Reply
from ark_backends.exllama.requirements import weights_bytes
from ark_backends.exllama.tracked import Tracked

log = logging.getLogger("ark.exllama")

pagetable.tensor_hash_checksum = rooted(pagetable.tensor_hash_checksum)
job_module.tensor_hash_checksum = pagetable.tensor_hash_checksum


class Job(Tracked, exllamav3.Job):  # type: ignore[misc]
    """A job of exllamav3 for one reply. The generator gives a long one its pages piece by piece."""

    # A check waits for the GPU. The generator checks the first token itself, and would fail the step of all others.
    checks = False
    floor = -1e30

    def allocate_pages(self) -> None:
        table = self.generator.pagetable
        table.build_eviction_order = self._eviction_order
        super().allocate_pages()

    def hash_completed_page(self, seq: Any, page_idx: int) -> None:
        # Another job may wait to compute the same page, and so hold its hash. It finds this one when it gets there.
        before = seq.allocated_pages[page_idx - 1].phash if page_idx else None
        ids = seq.sequence_ids.torch_slice(page_idx * PAGE, (page_idx + 1) * PAGE)
        other = self.pagetable.referenced_pages.get(pagetable.tensor_hash_checksum(ids, before))
        if other is not None and not other.kv_position:
            other.make_unique()
        super().hash_completed_page(seq, page_idx)

    def _eviction_order(self, protected_hashes: Collection[bytes] | None = None) -> deque[Any]:
        return deque(self.pages.order(self.reply.job.session, protected_hashes or ()))


class GrammarFilter(Filter):  # type: ignore[misc]
    """A grammar's mask, prepared on a thread of the generator's while the GPU computes.

    The reply's `SamplingState` feeds the grammar its tokens.
    """

    def __init__(self, mask: Mask) -> None:
        super().__init__(None, None, None, False)
        self._mask = mask

    def reset(self) -> None:
        pass

    def accept_token(self, token: int) -> None:
        pass

    def get_next_logit_mask(self) -> torch.Tensor:
        return self._mask.prepare()

    def is_completed(self) -> bool:
        # A complete grammar allows the ends of a turn, and one of them ends the job.
        return False


class V3(Generator):
    """exllamav3."""

    package_generator = exllamav3.Generator

    def begin(self, reply: Reply) -> None:
        state = reply.sampling
        run = Job(
            input_ids=torch.tensor([list(reply.job.prompt)], dtype=torch.long),
            max_new_tokens=reply.job.max_tokens,
            max_rq_tokens=self._reserve,
            sampler=sampler(reply.job.sampling),
            seed=state.seed,
            stop_conditions=list(reply.job.stop_token_ids),
            filters=[] if state.mask is None else [GrammarFilter(state.mask)],
            identifier=reply,
        )
        if state.sequential and self._draft_model is not None:
            # Otherwise all guesses are sampled at once.
            run.sampler.reqs_past_ids = True
        run.reply, run.pages = reply, self.pages
        self._generator.enqueue(run)
        reply.run = run

    def step(self) -> Sequence[Ended]:
        ended: list[Ended] = []
        for result in self._generator.iterate():
            if not result["eos"]:
                continue
            reply: Reply = result["job"].reply
            if result["stage"] == "error":
                log.error("request %s failed: %r", reply.job.request_id, result["error"])
                ended.append((reply, "error"))
            else:
                ended.append((reply, "stop" if result["eos_reason"] == "stop_token" else "length"))
        return ended

    def _more_options(self) -> dict[str, Any]:
        return {"num_draft_tokens": self._draft_tokens or None}

    def _page_table(self) -> Any:
        return self._generator.pagetable

    def _end_threads(self) -> None:
        self._generator.close()


def sampler(params: SamplingParams) -> Any:
    """The generator's sampler: temperature, top_k, top_p, min_p and the draw, in this order.

    Penalties and bias are `SamplingState`'s.
    """
    if params.temperature < GREEDY:
        return CustomSampler([SS_Argmax()])
    steps = [SS_TopK(params.top_k), SS_TopP(params.top_p), SS_MinP(params.min_p)]
    if params.top_p == 1.0:
        # The order does not matter then, and min_p first allows fused kernels.
        steps = [steps[2], *steps[:2]]
    return CustomSampler([SS_Temperature(params.temperature), *steps, SS_Sample()])


def open_v3(model: ModelConfig, options: ExLlamaV3Options, path: Path, draft: Path | None) -> tuple[V3, int]:
    """A loaded model with its generator, and its context length. Raises ConfigError, and whatever exllamav3 does."""
    loaded, draft_model = _model(path, options), None if draft is None else _model(draft, options)
    if draft_model is not None:
        check_vocabulary(model, draft_model.config.vocab_size, loaded.config.vocab_size)
    drafted = 0 if draft_model is None else options.draft_tokens
    models = [one for one in (loaded, draft_model) if one is not None]
    # Caches are allocated while a model is loaded, so their size has to be known before.
    token_bytes = sum(_token_bytes(one, options) for one in models)
    tokens = options.cache_tokens
    if tokens is None:
        weights = weights_bytes(one.config.directory for one in models)
        tokens = fitting_tokens(model, free_bytes("exllamav3") - weights, token_bytes)
    caches = [_cache(one, options, tokens, history=drafted) for one in models]
    for one in reversed(models):
        one.load(
            use_per_device=None if options.gpu_split is None else list(options.gpu_split),
            tensor_p=options.tensor_parallel,
            max_chunk_size=options.prefill_chunk,
            max_batch_size=options.max_running,
            draft_model=draft_model if one is loaded else None,
        )
    if options.warm_up:
        loaded.warmup(cache=caches[0], max_chunk_size=options.prefill_chunk)
    # One more than the guesses: the generator keeps a place free after a reply.
    context = context_length(model, int(loaded.config.max_position_embeddings), tokens, 1 + drafted)
    drafting = None if draft_model is None else (draft_model, caches[1])
    return V3(loaded, caches[0], options, page_bytes=PAGE * token_bytes, draft=drafting), context


def _model(path: Path, options: ExLlamaV3Options) -> Any:
    return exllamav3.Model.from_config(exllamav3.Config.from_directory(str(path)), swa_full=options.full_window)


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
