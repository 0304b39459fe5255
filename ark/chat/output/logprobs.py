"""The log-probabilities of a reply's tokens, as the API writes them."""

from __future__ import annotations

from collections.abc import Callable

from ark.api.chat.logprob_schema import TokenLogprobs, TopLogprob
from ark.engines.chat import TokenLogprob


class Likelihoods:
    """Collects those of tokens until the text they belong to is passed on."""

    def __init__(self, token_bytes: Callable[[int], bytes]) -> None:
        """`token_bytes` gives what an id adds to the text."""
        self._token_bytes = token_bytes
        self._waiting: list[TokenLogprobs] = []

    def add(self, token: int, found: TokenLogprob) -> None:
        data = self._token_bytes(token)
        top = []
        for other, logprob in found.top:
            others = self._token_bytes(other)
            top.append(TopLogprob(token=_text(others), logprob=logprob, bytes=list(others)))
        self._waiting.append(
            TokenLogprobs(token=_text(data), logprob=found.logprob, bytes=list(data), top_logprobs=top)
        )

    def take(self) -> list[TokenLogprobs]:
        """Those of the tokens since the last time."""
        taken, self._waiting = self._waiting, []
        return taken


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
