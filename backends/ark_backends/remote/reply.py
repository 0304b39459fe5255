"""One of a job's replies while it comes in: where it ends, and whether it is what was asked for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from ark.engines.chat import GenerationJob, TokenBatch
from ark_backends.kit.grammar import GrammarFailed

if TYPE_CHECKING:
    from ark_backends.kit.grammar import Matcher

log = logging.getLogger("ark.remote")


class Reply:
    """Passes the batches of one reply on."""

    def __init__(self, job: GenerationJob, index: int, matcher: Matcher | None, hidden: frozenset[int]) -> None:
        self._job = job
        self._index = index
        self._matcher = matcher
        self._hidden = hidden
        self.over = False

    def take(self, batch: TokenBatch) -> TokenBatch:
        """The batch as it is passed on: nothing beyond a stop id, at which not every engine stops by itself.

        Raises GrammarFailed where the engine has not kept to the grammar, which some do without a word.
        """
        stops = self._job.stop_token_ids
        end = next((number for number, token in enumerate(batch.token_ids, 1) if token in stops), None)
        if end is not None:
            logprobs = batch.logprobs[:end]
            batch = msgspec.structs.replace(
                batch, token_ids=batch.token_ids[:end], logprobs=logprobs, finish_reason="stop"
            )
        if self._matcher is not None:
            batch = self._checked(batch, self._matcher)
        self.over = batch.finish_reason is not None
        return batch

    def drop(self) -> TokenBatch | None:
        """The last batch, if the server has seen the reply's end."""
        if self.over or self._index not in self._job.dropped:
            return None
        self.over = True
        return TokenBatch(finish_reason="stop", index=self._index)

    def _checked(self, batch: TokenBatch, matcher: Matcher) -> TokenBatch:
        # Where a grammar ends some engines end the reply with a token that ends texts, and not this model's turns.
        kept = [
            number
            for number, token in enumerate(batch.token_ids)
            if token not in self._hidden or token in self._job.stop_token_ids
        ]
        batch = msgspec.structs.replace(
            batch,
            token_ids=tuple(batch.token_ids[number] for number in kept),
            logprobs=tuple(batch.logprobs[number] for number in kept) if batch.logprobs else (),
        )
        try:
            for token in batch.token_ids:
                matcher.consume(token)
            if batch.finish_reason == "stop" and not matcher.may_end:
                raise GrammarFailed("The reply ended before its grammar did.")
        except GrammarFailed:
            log.error("request %s: the engine does not keep to the grammar", self._job.request_id)
            raise
        return batch
