"""The types of /audio/transcriptions and /audio/translations.

OpenAI's. Everything in a form arrives as text; fields that are not listed are accepted and have no effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from ark.engines import parameters
from ark.engines.transcription import Segment, Word


class TranslationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The form of POST /audio/translations, beside its `file`. None means that the field was not sent, or is empty."""

    model: parameters.Text
    prompt: str | None = None
    temperature: parameters.Probability | None = None
    response_format: parameters.SpeechFormat | None = None
    stream: bool | None = None


class TranscriptionRequest(TranslationRequest, frozen=True, kw_only=True):
    """The form of POST /audio/transcriptions, beside its `file`."""

    language: str | None = None
    """As in ISO 639-1, or its English name."""
    timestamp_granularities: parameters.Granularities | None = None
    """Sent as `timestamp_granularities[]`, once for each."""
    include: tuple[str, ...] | None = None
    """Sent as `include[]`."""
    chunking_strategy: str | None = None


class DurationUsage(msgspec.Struct, frozen=True, kw_only=True):
    seconds: float
    """Seconds of sound."""
    type: Literal["duration"] = "duration"


class Transcription(msgspec.Struct, frozen=True, kw_only=True):
    """The reply as `json`."""

    text: str
    usage: DurationUsage


class VerboseTranscription(msgspec.Struct, frozen=True, kw_only=True):
    """The reply as `verbose_json`."""

    task: Literal["transcribe", "translate"]
    language: str
    """Its English name."""
    duration: float
    text: str
    segments: Sequence[Segment] | UnsetType = UNSET
    words: Sequence[Word] | UnsetType = UNSET
    usage: DurationUsage


class TextDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A segment, as soon as it is recognised."""

    delta: str
    type: Literal["transcript.text.delta"] = "transcript.text.delta"


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True):
    """OpenAI's event has no other usage."""

    output_tokens: int
    """Tokens of the segments."""
    total_tokens: int
    input_tokens: int = 0
    """Speech is not read as tokens."""
    type: Literal["tokens"] = "tokens"


class TextDone(msgspec.Struct, frozen=True, kw_only=True):
    """The whole text, after its last segment."""

    text: str
    usage: TokenUsage
    type: Literal["transcript.text.done"] = "transcript.text.done"
