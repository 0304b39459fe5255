"""The log-probabilities of a reply's tokens, with the text that each token stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from ark.engines.chat import TokenLogprob


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


def with_text(token_id: int, found: TokenLogprob, token_bytes: Callable[[int], bytes]) -> TokenLogprobs:
    """`token_bytes` gives what an id adds to the text."""
    data = token_bytes(token_id)
    top: list[TopLogprob] = []
    for other, logprob in found.top:
        others = token_bytes(other)
        top.append(TopLogprob(token=others.decode("utf-8", "replace"), logprob=logprob, bytes=list(others)))
    text = data.decode("utf-8", "replace")
    return TokenLogprobs(token=text, logprob=found.logprob, bytes=list(data), top_logprobs=top)
