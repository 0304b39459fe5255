"""A generator of ExLlama's as the engine drives it: the same for both versions."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch

from ark_backends.exllama.options import AnyOptions
from ark_backends.exllama.pages import Pages
from ark_backends.exllama.reply import Reply

log = logging.getLogger("ark.exllama")

GREEDY = 1e-5
"""Temperatures below this take the most likely token."""

Ended = tuple[Reply, Literal["stop", "length", "error"]]


class EmptyVocabulary:
    """Stands in for a generator's own tokenizer, with every id as the empty text.

    Generators look for stop strings and hold back half characters, which ARK does itself. With this one, tokens come
    out as soon as they are chosen.
    """

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = self.actual_vocab_size = vocab_size
        self._pieces = [""] * vocab_size

    def get_vocab_size(self) -> int:
        return self.vocab_size

    def get_id_to_piece_list(self, include_special_tokens: bool = False) -> list[str]:
        return self._pieces


class Generator(ABC):
    """A model with its generator. Used on the engine's thread, once it has been started."""

    package_generator: ClassVar[Any]
    """The package's class of generators."""

    def __init__(
        self, model: Any, cache: Any, options: AnyOptions, *, page_bytes: int, draft: tuple[Any, Any] | None = None
    ) -> None:
        """`draft` is a smaller model with its cache, which guesses `draft_tokens` for every step."""
        self._model = model
        self._draft_model: Any = None
        draft_cache: Any = None
        if draft is not None:
            self._draft_model, draft_cache = draft
        self._draft_tokens = 0 if draft is None else options.draft_tokens
        self._reserve = options.reserve
        self._generator = self.package_generator(
            model=model,
            cache=cache,
            tokenizer=EmptyVocabulary(self.vocab_size),
            max_batch_size=options.max_running,
            max_chunk_size=options.prefill_chunk,
            draft_model=self._draft_model,
            draft_cache=draft_cache,
            **self._more_options(),
        )
        self.pages = Pages(self._page_table(), page_bytes)

    @property
    def vocab_size(self) -> int:
        """Ids that the model can read."""
        return int(self._model.config.vocab_size)

    @property
    def load(self) -> int:
        """Replies that the generator has, those that wait for pages included."""
        return int(self._generator.num_remaining_jobs())

    @abstractmethod
    def begin(self, reply: Reply) -> None:
        """Queue a reply. It is not there if this raises."""

    @abstractmethod
    def step(self) -> Sequence[Ended]:
        """Start what finds pages, compute a piece of each prompt, and a token for each reply that has read its own.

        Returns the replies that are over. It may raise anything; then `abandon` what was running.
        """

    def cancel(self, reply: Reply) -> None:
        """Take a reply out, and note what its pages hold."""
        if reply.run is not None:
            self._generator.cancel(reply.run)

    def running(self) -> Sequence[Reply]:
        """The replies that have pages."""
        return [job.reply for job in self._generator.active_jobs]

    def pending(self) -> Sequence[Reply]:
        """The replies that wait for pages."""
        return [job.reply for job in self._generator.pending_jobs]

    def abandon(self, failed: Sequence[Reply]) -> None:
        """Take out replies that were in a failed step, and forget what it may have written. Does not raise."""
        generator = self._generator
        for reply in failed:
            if reply.run is None:
                continue
            reply.run.failed = True
            try:
                generator.cancel(reply.run)
            except Exception:
                log.exception("the pages of a failed reply could not be freed one by one")
        if generator.active_jobs or self.pages.held():
            generator.active_jobs.clear()
            self.pages.reset()
        generator.filter_queue.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Free the model."""
        self._generator.clear_queue()
        self._end_threads()
        del self._generator, self.pages
        for model in (self._model, self._draft_model):
            if model is not None:
                model.unload()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @abstractmethod
    def _more_options(self) -> dict[str, Any]:
        """Options that only this version's generator has."""

    @abstractmethod
    def _page_table(self) -> Any:
        """Where the generator keeps its pages."""

    @abstractmethod
    def _end_threads(self) -> None:
        """End the threads that the generator has started."""
