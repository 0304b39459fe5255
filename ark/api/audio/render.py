"""A recording's segments as replies and events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Literal

import msgspec

from ark.api.audio.languages import name_of
from ark.api.audio.schema import (
    DurationUsage,
    Segment,
    TextDelta,
    TextDone,
    TokenUsage,
    Transcription,
    VerboseTranscription,
    Word,
)
from ark.api.audio.subtitles import srt, vtt
from ark.engines.parameters import SpeechFormat
from ark.engines.transcription import TranscriptionInfo, TranscriptionSegment
from ark.http.response import JSON, Response
from ark.http.sse import DONE, json_event

PLAIN = b"text/plain; charset=utf-8"

_encoder = msgspec.json.Encoder()


class Heard(msgspec.Struct, kw_only=True):
    """What has come of a recording so far."""

    info: TranscriptionInfo | None = None
    segments: list[TranscriptionSegment] = []

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments).strip()

    @property
    def seconds(self) -> float:
        return 0.0 if self.info is None else self.info.duration

    @property
    def tokens(self) -> int:
        return sum(len(segment.tokens) for segment in self.segments)

    def take(self, piece: TranscriptionInfo | TranscriptionSegment) -> None:
        if isinstance(piece, TranscriptionInfo):
            self.info = piece
        else:
            self.segments.append(piece)


def reply(
    heard: Heard,
    form: SpeechFormat,
    *,
    task: Literal["transcribe", "translate"],
    granularities: Sequence[str],
    headers: Sequence[tuple[str, str]] = (),
) -> Response:
    """The whole reply, once the recording has been heard to its end."""
    match form:
        case "json":
            usage = DurationUsage(seconds=heard.seconds)
            return Response(body=_encoder.encode(Transcription(text=heard.text, usage=usage)), headers=headers)
        case "verbose_json":
            return Response(body=_verbose(heard, task, granularities), headers=headers, content_type=JSON)
        case "text":
            text = heard.text + "\n"
        case "srt":
            text = srt(heard.segments)
        case "vtt":
            text = vtt(heard.segments)
    return Response(body=text.encode("utf-8", "replace"), headers=headers, content_type=PLAIN)


async def events(
    pieces: AsyncGenerator[TranscriptionInfo | TranscriptionSegment, None], heard: Heard
) -> AsyncGenerator[bytes, None]:
    """OpenAI's events: a delta for each segment, then the whole. The deltas, joined, are the whole text."""
    begun = False
    async with aclosing(pieces):
        async for piece in pieces:
            heard.take(piece)
            if isinstance(piece, TranscriptionInfo):
                continue
            # The text's own first space goes, as it does in the whole.
            delta = piece.text if begun else piece.text.lstrip()
            if delta:
                begun = True
                yield json_event(_encoder.encode(TextDelta(delta=delta)))
    usage = TokenUsage(output_tokens=heard.tokens, total_tokens=heard.tokens)
    yield json_event(_encoder.encode(TextDone(text=heard.text, usage=usage)))
    yield DONE


def _verbose(heard: Heard, task: Literal["transcribe", "translate"], granularities: Sequence[str]) -> bytes:
    """With words alone where they alone are asked for, as OpenAI has it."""
    segments = [
        Segment(
            id=one.id,
            seek=one.seek,
            start=one.start,
            end=one.end,
            text=one.text,
            tokens=one.tokens,
            temperature=one.temperature,
            avg_logprob=one.avg_logprob,
            compression_ratio=one.compression_ratio,
            no_speech_prob=one.no_speech_prob,
        )
        for one in heard.segments
    ]
    words = [Word(word=word.text, start=word.start, end=word.end) for one in heard.segments for word in one.words]
    spoken = "" if heard.info is None else name_of(heard.info.language)
    whole = VerboseTranscription(
        task=task,
        language="english" if task == "translate" else spoken,
        duration=heard.seconds,
        text=heard.text,
        segments=segments if "segment" in granularities or not granularities else msgspec.UNSET,
        words=words if "word" in granularities else msgspec.UNSET,
        usage=DurationUsage(seconds=heard.seconds),
    )
    return _encoder.encode(whole)
