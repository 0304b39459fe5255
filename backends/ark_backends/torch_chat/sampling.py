"""From logits to the tokens of a step: penalties, grammars, the draw and log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ark.engines.chat import GenerationJob, TokenLogprob
from ark.errors import APIError
from ark_backends.kit.admission import request_failed
from ark_backends.kit.grammar import GrammarFailed, Matcher
from ark_backends.kit.logits import Penalties, apply_penalties, log_probabilities
from ark_backends.kit.masks import apply_masks, fill_masks
from ark_backends.torch_chat.sampler import NotFinite, Sampler, choose


class SamplingState:
    """How one reply's tokens are chosen: all that is not in the model."""

    def __init__(self, job: GenerationJob, index: int, matcher: Matcher | None, width: int) -> None:
        """`index` is the reply's among the job's, `width` that of the logits."""
        self.sampler = Sampler(job.sampling, index)
        self.matcher = matcher
        self.penalties = Penalties.of(job.sampling, job.prompt, job.stop_token_ids, width)
        self.top_logprobs = job.top_logprobs

    def accept(self, token: int) -> None:
        """Take note of a chosen token. Raises GrammarFailed."""
        if self.penalties is not None:
            self.penalties.add(token)
        if self.matcher is not None:
            self.matcher.consume(token)


class SampledToken:
    """A chosen token, or why there is none."""

    __slots__ = ("error", "logprob", "token")

    def __init__(self, token: int, error: APIError | None = None) -> None:
        self.token = token
        self.logprob: TokenLogprob | None = None
        self.error = error


def sample(logits: torch.Tensor, states: Sequence[SamplingState]) -> list[SampledToken]:
    """One token for each row of logits (rows, vocabulary), in the model's type."""
    if not states:
        return []
    with torch.inference_mode():
        # First, because the model may still compute the logits.
        masks = fill_masks([state.matcher for state in states])
        raw, penalties = logits, [state.penalties for state in states]
        logits = apply_penalties(raw, penalties)
        allowed, failed = logits, list[int]()
        if masks is not None:
            bits, failed = masks
            bound = [row for row, state in enumerate(states) if state.matcher is not None and row not in failed]
            allowed = apply_masks(logits, bits, bound)
            if _allow_stops(allowed, bound, penalties):
                logits = apply_penalties(raw, penalties)
                allowed = apply_masks(logits, bits, bound)
        sampled = _choose(allowed, states)
        for row in failed:
            sampled[row] = SampledToken(-1, GrammarFailed("The grammar is too complex to go on with."))
        chosen = [None if one.error is not None else one.token for one in sampled]
        asked = [state.top_logprobs for state in states]
        for one, logprob in zip(sampled, log_probabilities(logits, chosen, asked), strict=True):
            one.logprob = logprob
    return sampled


def _allow_stops(allowed: torch.Tensor, bound: Sequence[int], penalties: Sequence[Penalties | None]) -> bool:
    """Allow stop ids in rows whose grammar is complete before their `min_tokens`: nothing else is left to them."""
    changed = False
    for row in bound:
        penalty = penalties[row]
        if penalty is not None and penalty.forbids_stops and not bool((allowed[row] > float("-inf")).any()):
            penalty.allow_stops()
            changed = True
    return changed


def _choose(logits: torch.Tensor, states: Sequence[SamplingState]) -> list[SampledToken]:
    """A token for each row, and an error for a row without usable numbers."""
    samplers = [state.sampler for state in states]
    try:
        return [SampledToken(token) for token in choose(logits, samplers)]
    except NotFinite as error:
        good = [row for row in range(len(states)) if row not in error.rows]
    # The client is not told: it is the model that is broken, not the request.
    sampled = [SampledToken(-1, request_failed()) for _ in states]
    if good:
        for row, token in zip(good, choose(logits[good], [samplers[row] for row in good]), strict=True):
            sampled[row] = SampledToken(token)
    return sampled
