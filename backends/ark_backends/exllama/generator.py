"""What the engine does with the generators of both versions alike."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import torch

from ark_backends.exllama.pages import Pages, Table
from ark_backends.exllama.reply import Reply

log = logging.getLogger("ark.exllama")

GREEDY = 1e-5
"""Temperatures below this take the most likely token."""


class Generator:
    """All of `ark_backends.exllama.face.Face` but `begin` and `step`, on a generator of either version."""

    def __init__(
        self, generator: Any, table: Any, *, model: Any, draft_model: Any, reserve: int, page_bytes: int
    ) -> None:
        """`table` is where the generator keeps its pages, and `reserve` the number of generated tokens that a reply is
        given pages for at a time; `draft_model` may be None."""
        self._generator = generator
        self._model = model
        self._draft_model = draft_model
        self._reserve = reserve
        self.pages = Pages(cast(Table, table), page_bytes)

    @property
    def vocab_size(self) -> int:
        return int(self._model.config.vocab_size)

    @property
    def load(self) -> int:
        return int(self._generator.num_remaining_jobs())

    def cancel(self, reply: Reply) -> None:
        if reply.run is not None:
            self._generator.cancel(reply.run)

    def running(self) -> Sequence[Reply]:
        return [job.reply for job in self._generator.active_jobs]

    def pending(self) -> Sequence[Reply]:
        return [job.reply for job in self._generator.pending_jobs]

    def abandon(self, failed: Sequence[Reply]) -> None:
        generator = self._generator
        for reply in failed:
            if reply.run is None:
                continue
            reply.run.failed = True
            try:
                generator.cancel(reply.run)
            except Exception:
                log.exception("the pages of a failed reply could not be freed one by one")
        if generator.active_jobs:
            generator.active_jobs.clear()
            self.pages.reset()
        generator.filter_queue.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def close(self) -> None:
        self._generator.clear_queue()
        self._end()
        del self._generator, self.pages
        for model in (self._model, self._draft_model):
            if model is not None:
                model.unload()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _end(self) -> None:
        """End what the generator has started."""
        raise NotImplementedError
