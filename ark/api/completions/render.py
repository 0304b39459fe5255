"""Completions in OpenAI's older shape."""

from __future__ import annotations

import codecs
import random
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from ark.api.chat.render import FINGERPRINT, Head
from ark.api.chat.schema import CompletionTokensDetails, PromptTokensDetails, Usage
from ark.api.completions import schema
from ark.chat.output.processor import OutputProcessor, TokenLogprobs
from ark.chat.turn import Replies

Token: TypeAlias = "tuple[bytes, TokenLogprobs | None]"
"""What a token adds to the text; None for one that nothing comes before."""


def new_head(model: str) -> Head:
    return Head(model=model, id=f"cmpl-{random.getrandbits(128):032x}")


def completion(head: Head, choices: Sequence[schema.TextChoice], used: Usage | UnsetType | None = UNSET) -> bytes:
    """The JSON of a whole reply or of a chunk."""
    body = schema.TextCompletion(
        id=head.id,
        created=head.created,
        model=head.model,
        choices=choices,
        usage=used,
        system_fingerprint=FINGERPRINT,
    )
    return msgspec.json.encode(body)


class ChoiceText:
    """The text of one choice while it grows, and where its tokens stand in it."""

    def __init__(self, index: int, *, logprobs: bool) -> None:
        self.index = index
        self._logprobs = logprobs
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._length = 0
        self.ended = False

    def add(self, text: str, tokens: Sequence[Token] = (), finish_reason: str | None = None) -> schema.TextChoice:
        """A choice that has what is new."""
        logprobs = self._read(tokens) if self._logprobs else None
        choice = schema.TextChoice(index=self.index, text=text, logprobs=logprobs)
        if finish_reason is None:
            return choice
        return msgspec.structs.replace(choice, finish_reason="length" if finish_reason == "length" else "stop")

    def _read(self, tokens: Sequence[Token]) -> schema.TextLogprobs:
        offsets = []
        for data, _ in tokens:
            offsets.append(self._length)
            self._length += len(self._decoder.decode(data))
        return schema.TextLogprobs(
            tokens=[_name(data) for data, _ in tokens],
            token_logprobs=[None if found is None else found.logprob for _, found in tokens],
            top_logprobs=[None if found is None else _top(found) for _, found in tokens],
            text_offset=offsets,
        )


def tokens_of(found: Sequence[TokenLogprobs] | None) -> list[Token]:
    return [(bytes(token.bytes), token) for token in found or ()]


def _name(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _top(found: TokenLogprobs) -> dict[str, float]:
    top = {_name(bytes(other.bytes)): other.logprob for other in found.top_logprobs}
    return {**top, _name(bytes(found.bytes)): found.logprob}


def mean_logprob(output: OutputProcessor) -> float:
    """The mean of the logarithms of the probabilities of a reply's tokens, by which `best_of` chooses."""
    found = output.logprobs or ()
    return sum(token.logprob for token in found) / max(1, len(found))


def usage(replies: Sequence[Replies], completion_tokens: int) -> Usage:
    prompt_tokens = sum(one.prompt_tokens for one in replies)
    cached_tokens = sum(one.cached_tokens for one in replies)
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=cached_tokens),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=0),
    )
