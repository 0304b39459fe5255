"""The generator of exllamav3, as the engine drives it.

Importing this module imports exllamav3; `ark_backends.exllama.opening` prepares for that.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Sequence
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

from ark.engines.chat import SamplingParams
from ark_backends.exllama.face import Ended
from ark_backends.exllama.generator import GREEDY, Generator
from ark_backends.exllama.pages import rooted
from ark_backends.exllama.reply import Mask, Reply
from ark_backends.exllama.tokens import Wordless
from ark_backends.exllama.tracked import Tracked

log = logging.getLogger("ark.exllama")

pagetable.tensor_hash_checksum = rooted(pagetable.tensor_hash_checksum)
job_module.tensor_hash_checksum = pagetable.tensor_hash_checksum


class Job(Tracked, exllamav3.Job):  # type: ignore[misc]
    """A job of exllamav3 for one reply. The generator itself gives a long one pages piece by piece."""

    # To look at them waits for the GPU. The generator does so for the first token, and fails the step of all others.
    checks = False
    floor = -1e30

    def allocate_pages(self) -> None:
        table = self.generator.pagetable
        table.build_eviction_order = self._eviction_order
        super().allocate_pages()

    def _eviction_order(self, protected_hashes: Collection[bytes] | None = None) -> deque[Any]:
        return deque(self.pages.order(self.reply.job.session, protected_hashes or ()))


class GrammarFilter(Filter):  # type: ignore[misc]
    """A grammar's mask, prepared on a thread of the generator's while the GPU computes.

    The reply's voice feeds the grammar its tokens.
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
    """`ark_backends.exllama.face.Face` on exllamav3."""

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
        draft_model, draft_cache = (None, None) if draft is None else draft
        generator = exllamav3.Generator(
            model=model,
            cache=cache,
            tokenizer=Wordless(model.config.vocab_size),
            max_batch_size=max_running,
            max_chunk_size=prefill_chunk,
            draft_model=draft_model,
            draft_cache=draft_cache,
            num_draft_tokens=None if draft is None else draft_tokens,
        )
        super().__init__(
            generator, generator.pagetable, model=model, draft_model=draft_model, reserve=reserve, page_bytes=page_bytes
        )

    def begin(self, reply: Reply) -> None:
        voice = reply.voice
        run = Job(
            input_ids=torch.tensor([list(reply.job.prompt)], dtype=torch.long),
            max_new_tokens=reply.job.max_tokens,
            max_rq_tokens=self._reserve,
            sampler=sampler(reply.job.sampling),
            seed=voice.seed,
            stop_conditions=list(reply.job.stop_token_ids),
            filters=[] if voice.mask is None else [GrammarFilter(voice.mask)],
            identifier=reply,
        )
        if voice.follows and self._draft_model is not None:
            # What is guessed is otherwise sampled all at once.
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

    def _end(self) -> None:
        self._generator.close()


def sampler(params: SamplingParams) -> Any:
    """The generator's sampler for what is left to it: temperature, top_k, top_p, min_p and the draw, in this order.

    Penalties and bias are the voice's.
    """
    if params.temperature < GREEDY:
        return CustomSampler([SS_Argmax()])
    steps = [SS_TopK(params.top_k), SS_TopP(params.top_p), SS_MinP(params.min_p)]
    if params.top_p == 1.0:
        # Then the order does not matter, and with min_p first its fused kernels take them.
        steps = [steps[2], *steps[:2]]
    return CustomSampler([SS_Temperature(params.temperature), *steps, SS_Sample()])
