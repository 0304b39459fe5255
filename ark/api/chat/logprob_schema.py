"""The log-probabilities of a reply's tokens."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class TopLogprob(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    """U+FFFD stands for bytes that are no whole character."""
    logprob: float
    bytes: Sequence[int]


class TokenLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    token: str
    logprob: float
    bytes: Sequence[int]
    top_logprobs: Sequence[TopLogprob] = ()


class ChoiceLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    content: Sequence[TokenLogprobs]
    refusal: None = None
