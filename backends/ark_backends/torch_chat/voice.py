"""From logits to the tokens of a step: penalties, grammars, log-probabilities and the draw."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ark.engines.chat import GenerationJob, TokenLogprob
from ark.errors import APIError, Unavailable
from ark_backends.kit.grammar import GrammarFailed, Matcher, apply_masks, fill_masks
from ark_backends.kit.logprobs import log_probabilities
from ark_backends.kit.penalties import Penalties, apply_penalties
from ark_backends.torch_chat.sampler import Chooser, NotFinite, choose


class Voice:
    """How one reply says what it says: everything about its choices that is not in the model."""

    __slots__ = ("chooser", "matcher", "penalties", "top_logprobs")

    def __init__(self, job: GenerationJob, index: int, matcher: Matcher | None, width: int) -> None:
        """`index` is the reply's among the job's, `width` that of the logits."""
        self.chooser = Chooser(job.sampling, index)
        self.matcher = matcher
        self.penalties: Penalties | None = None
        if Penalties.needed(job.sampling):
            self.penalties = Penalties(job.sampling, job.prompt, job.stop_token_ids, width)
        self.top_logprobs = job.top_logprobs

    def accept(self, token: int) -> None:
        """Take note of a chosen token. Raises GrammarFailed."""
        if self.penalties is not None:
            self.penalties.add(token)
        if self.matcher is not None:
            self.matcher.consume(token)


class Said:
    """A chosen token, or why there is none."""

    __slots__ = ("error", "logprob", "token")

    def __init__(self, token: int, logprob: TokenLogprob | None = None, error: APIError | None = None) -> None:
        self.token = token
        self.logprob = logprob
        self.error = error


def say(logits: torch.Tensor, voices: Sequence[Voice]) -> list[Said]:
    """One token for each row of logits (rows, vocabulary), in the model's type."""
    if not voices:
        return []
    with torch.inference_mode():
        # First, because the model may still compute the logits.
        masks = fill_masks([voice.matcher for voice in voices])
        raw, penalties = logits, [voice.penalties for voice in voices]
        logits = apply_penalties(raw, penalties)
        allowed, failed = logits, list[int]()
        if masks is not None:
            bits, failed = masks
            bound = [i for i, voice in enumerate(voices) if voice.matcher is not None and i not in failed]
            allowed = apply_masks(logits, bits, bound)
            if _let_end(allowed, bound, penalties):
                logits = apply_penalties(raw, penalties)
                allowed = apply_masks(logits, bits, bound)
        said = _choose(allowed, voices)
        for row in failed:
            said[row] = Said(-1, error=GrammarFailed("The grammar is too complex to go on with."))
        chosen = [None if one.error is not None else one.token for one in said]
        asked = [voice.top_logprobs for voice in voices]
        for one, logprob in zip(said, log_probabilities(logits, chosen, asked), strict=True):
            one.logprob = logprob
    return said


def _let_end(allowed: torch.Tensor, bound: Sequence[int], penalties: Sequence[Penalties | None]) -> bool:
    """Let rows end whose grammar is complete before their `min_tokens`: nothing else is left to them."""
    stuck = False
    for row in bound:
        one = penalties[row]
        if one is not None and one.holding and not bool((allowed[row] > float("-inf")).any()):
            one.let_end()
            stuck = True
    return stuck


def _choose(logits: torch.Tensor, voices: Sequence[Voice]) -> list[Said]:
    """A token for each row, and an error for a row without usable numbers."""
    try:
        return [Said(token) for token in choose(logits, [voice.chooser for voice in voices])]
    except NotFinite as error:
        good = [i for i in range(len(voices)) if i not in error.rows]
        # Named here and not to the client: it is the model that is broken, not the request.
        failed = Unavailable("The model's engine failed on this request.", code="engine_failed")
        said = [Said(-1, error=failed) for _ in voices]
        if good:
            for i, token in zip(good, choose(logits[good], [voices[i].chooser for i in good]), strict=True):
                said[i] = Said(token)
        return said
