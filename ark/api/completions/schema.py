"""The types of /completions, OpenAI's older way to ask for text.

Fields that are not listed are accepted and have no effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from ark.api.chat.schema import GenerationFields, StreamOptions, Usage
from ark.engines import parameters


class CompletionRequest(GenerationFields, frozen=True, kw_only=True):
    """The body of POST /completions. None means that the field was not sent, or sent as null."""

    model: parameters.Text
    prompt: parameters.Prompt
    suffix: str | None = None

    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: parameters.TokenLimit | None = None
    echo: bool | None = None
    logprobs: parameters.LegacyLogprobs | None = None
    n: parameters.ReplyCount | None = None
    best_of: parameters.ReplyCount | None = None
    add_special_tokens: bool | None = None

    user: str | None = None


class TextLogprobs(msgspec.Struct, frozen=True, kw_only=True):
    """Of the tokens of a choice, in parallel lists."""

    tokens: Sequence[str]
    """Where a token is no whole characters, ``bytes:`` and its bytes as ``\\xf0``."""
    token_logprobs: Sequence[float | None]
    """None for the first token of a prompt, which nothing comes before."""
    top_logprobs: Sequence[Mapping[str, float] | None]
    """The most likely tokens, and the one that stands there."""
    text_offset: Sequence[int]
    """Where each token begins in the text, in characters."""


class TextChoice(msgspec.Struct, frozen=True, kw_only=True):
    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: Literal["stop", "length"] | None = None


class TextCompletion(msgspec.Struct, frozen=True, kw_only=True):
    """A whole reply, or a chunk of a stream."""

    id: str
    created: int
    model: str
    choices: Sequence[TextChoice]
    usage: Usage | UnsetType | None = UNSET
    """Null in every chunk but the last when usage was asked for, and not there when it was not."""
    object: Literal["text_completion"] = "text_completion"
    system_fingerprint: str | None = None
