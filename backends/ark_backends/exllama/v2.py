"""The dynamic generator of exllamav2, as the engine drives it.

Importing this module imports exllamav2; `ark_backends.exllama.opening` prepares for that.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from exllamav2.generator import ExLlamaV2DynamicGenerator, ExLlamaV2DynamicJob, ExLlamaV2Sampler, dynamic
from exllamav2.generator.filters import ExLlamaV2Filter

from ark.engines.chat import SamplingParams
from ark_backends.exllama.face import Ended
from ark_backends.exllama.generator import GREEDY, Generator
from ark_backends.exllama.pages import rooted
from ark_backends.exllama.reply import Mask, Reply
from ark_backends.exllama.tokens import Wordless
from ark_backends.exllama.tracked import Tracked

dynamic._tensor_hash_checksum = rooted(dynamic._tensor_hash_checksum)


class Job(Tracked, ExLlamaV2DynamicJob):  # type: ignore[misc]
    """A job of exllamav2 for one reply, or for a part of it."""

    def allocate_pages(self) -> None:
        # The generator takes the pages that were used longest ago: these are made to look so.
        wanted = self.sequences[0].page_hashes
        for serial, page in enumerate(self.pages.order(self.reply.job.session, wanted)):
            page.access_serial = serial
        super().allocate_pages()


class GrammarFilter(ExLlamaV2Filter):  # type: ignore[misc]
    """A grammar's mask, prepared on a thread of the generator's while the GPU computes.

    The reply's voice feeds the grammar its tokens.
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
    """`ark_backends.exllama.face.Face` on exllamav2."""

    def __init__(
        self,
        model: Any,
        cache: Any,
        *,
        max_running: int,
        prefill_chunk: int,
        reserve: int,
        page_bytes: int,
        draft: tuple[Any, Any] | None = None,
        draft_tokens: int = 0,
    ) -> None:
        """`reserve` is the number of generated tokens that a reply is given pages for at a time; `draft` is a smaller
        model with its cache, which guesses so many tokens for every step."""
        self._drafted = draft_tokens if draft is not None else 0
        draft_model, draft_cache = (None, None) if draft is None else draft
        generator = ExLlamaV2DynamicGenerator(
            model=model,
            cache=cache,
            tokenizer=Wordless(model.config.vocab_size),
            max_batch_size=max_running,
            max_chunk_size=prefill_chunk,
            max_q_size=max(8, self._drafted + 1),
            draft_model=draft_model,
            draft_cache=draft_cache,
            num_draft_tokens=self._drafted,
        )
        super().__init__(
            generator, generator, model=model, draft_model=draft_model, reserve=reserve, page_bytes=page_bytes
        )

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
                # It has used up what was set aside for it. It goes on before all others, on the pages that it left.
                self._begin(reply, ids, rng=reply.run.rng)
                pending = self._generator.pending_jobs
                pending.insert(0, pending.pop())
        return ended

    def _end(self) -> None:
        for pool in (self._generator.sampling_pool, self._generator.filter_pool):
            pool.shutdown(wait=True)

    def _begin(self, reply: Reply, ids: Sequence[int], rng: random.Random | None = None) -> None:
        voice, left = reply.voice, reply.job.max_tokens - (len(ids) - len(reply.job.prompt))
        run = Job(
            input_ids=torch.tensor([ids], dtype=torch.long),
            # The generator ends so many tokens early when it drafts.
            max_new_tokens=min(left, self._reserve) + self._drafted,
            gen_settings=settings(reply.job.sampling),
            seed=voice.seed,
            stop_conditions=list(reply.job.stop_token_ids),
            filters=[] if voice.mask is None else [GrammarFilter(voice.mask)],
            identifier=reply,
        )
        run.reply, run.pages = reply, self.pages
        if rng is not None:
            run.rng = rng
        self._generator.enqueue(run)
        if reply.run is not None:
            run.begun = True
        reply.run = run


def settings(params: SamplingParams) -> Any:
    """The generator's sampler for what is left to it: temperature, top_k, top_p, min_p and the draw, in this order.

    Its own defaults are others; penalties and bias are the voice's.
    """
    greedy = params.temperature < GREEDY
    return ExLlamaV2Sampler.Settings(
        token_repetition_penalty=1.0,
        temperature=1.0 if greedy else params.temperature,
        top_k=1 if greedy else params.top_k,
        top_p=0.0 if greedy else params.top_p,
        # It passes over a value of 1.
        min_p=0.0 if greedy else min(params.min_p, 0.999999),
    )
