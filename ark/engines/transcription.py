"""The protocol of a transcription engine, and the values that cross it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import IO, Literal, Protocol

import msgspec

from ark.engines.backend import Backend, EngineStatus


class TranscriptionJob(msgspec.Struct, frozen=True, kw_only=True):
    """One recording to be written down."""

    request_id: str
    owner: str = ""
    """Whose it is: owners get the engine's time in turns."""
    audio: IO[bytes]
    """The file as it was sent, seekable, at its beginning. The backend may read it from any thread until the job's
    generator has been closed; it closes nothing."""
    task: Literal["transcribe", "translate"] = "transcribe"
    """``translate`` writes English whatever is spoken."""
    language: str | None = None
    """One of `TranscriptionBackend.languages`; None lets the model find out."""
    prompt: str = ""
    """Text that is taken for what was said before: names and spellings that the model may expect."""
    temperature: float | None = None
    """0 to 1; 0 takes the most likely token. None is 0, and higher for a window that comes out badly."""
    words: bool = False
    """Also when each word was said."""
    max_seconds: float | None = None
    """Longest recording that is taken."""


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """A word and when it was said."""

    word: str
    """With its punctuation, without spaces round it."""
    start: float
    """Seconds from the beginning of the recording; so is `end`."""
    end: float


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """A segment of the text, as in OpenAI's verbose_json. Times are in seconds of the recording."""

    id: int
    """Counts the segments of a recording from 0."""
    seek: int
    """Start of the window in which it was recognised, in frames of 10 ms."""
    start: float
    end: float
    text: str
    """With the space before it, so that the texts of all segments, joined, are the whole text."""
    tokens: Sequence[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class TranscriptionSegment(Segment, frozen=True, kw_only=True):
    """A segment with its words."""

    words: Sequence[Word] = ()
    """Where the job asks for them."""


class TranscriptionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a recording once it has been decoded."""

    language: str
    """Code of the language that is spoken: the job's, or the one found."""
    duration: float
    """Seconds of sound, silence included."""


class TranscriptionStatus(EngineStatus, frozen=True, kw_only=True):
    """A snapshot of a transcription engine."""

    audio_seconds: float = 0.0
    """Seconds of recordings whose transcription has ended or been cancelled, as far as they were decoded."""
    segments: int = 0


class TranscriptionBackend(Backend, Protocol):
    """An opened speech model."""

    @property
    def languages(self) -> Sequence[str]:
        """Codes of the languages that the model knows, as in ISO 639-1 where they have one there."""
        ...

    def status(self) -> TranscriptionStatus: ...

    def transcribe(self, job: TranscriptionJob) -> AsyncGenerator[TranscriptionInfo | TranscriptionSegment, None]:
        """What is known of the recording, then its segments, each as soon as it is recognised.

        Closing the generator cancels the job within one step of the decoder. A recording that breaks off gives what
        could be decoded. Raises `ark.errors.TooManyRequests` at once when the queue is full,
        `ark.errors.UnsupportedMediaType` for what is not audio, `ark.errors.BadRequest` for a recording that is empty
        or too long, and `ark.errors.Unavailable` when the engine fails.
        """
        ...
