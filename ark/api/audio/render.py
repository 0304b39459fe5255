"""A recording's segments as responses: JSON, text, subtitles and events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Literal, TypeVar

import msgspec

from ark.api.audio.languages import name_of
from ark.api.audio.schema import (
    DurationUsage,
    TextDelta,
    TextDone,
    TokenUsage,
    Transcription,
    VerboseTranscription,
)
from ark.engines.parameters import SpeechFormat
from ark.engines.transcription import Segment, TranscriptionInfo, TranscriptionSegment, Word
from ark.http.response import JSON, Response
from ark.http.sse import DONE, json_event

PLAIN = b"text/plain; charset=utf-8"

Spoken = TypeVar("Spoken", Segment, Word)


class TranscriptionResult(msgspec.Struct, kw_only=True):
    """What has been recognised of a recording so far."""

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


def reply(
    result: TranscriptionResult,
    form: SpeechFormat,
    *,
    task: Literal["transcribe", "translate"],
    granularities: Sequence[str],
    headers: Sequence[tuple[str, str]] = (),
) -> Response:
    """The whole reply, once the recording has been recognised to its end."""
    match form:
        case "json":
            usage = DurationUsage(seconds=result.seconds)
            return Response(body=msgspec.json.encode(Transcription(text=result.text, usage=usage)), headers=headers)
        case "verbose_json":
            return Response(body=_verbose(result, task, granularities), headers=headers, content_type=JSON)
        case "text":
            text = result.text + "\n"
        case "srt":
            text = srt(result.segments)
        case "vtt":
            text = vtt(result.segments)
    return Response(body=text.encode("utf-8", "replace"), headers=headers, content_type=PLAIN)


async def events(
    segments: AsyncGenerator[TranscriptionSegment, None], result: TranscriptionResult
) -> AsyncGenerator[bytes, None]:
    """OpenAI's events: a delta for each segment, then the whole. The deltas, joined, are the whole text."""
    begun = False
    async with aclosing(segments):
        async for segment in segments:
            # The text's own first space goes, as it does in the whole.
            delta = segment.text if begun else segment.text.lstrip()
            if delta:
                begun = True
                yield json_event(msgspec.json.encode(TextDelta(delta=delta)))
    usage = TokenUsage(output_tokens=result.tokens, total_tokens=result.tokens)
    yield json_event(msgspec.json.encode(TextDone(text=result.text, usage=usage)))
    yield DONE


def _verbose(
    result: TranscriptionResult, task: Literal["transcribe", "translate"], granularities: Sequence[str]
) -> bytes:
    """With words alone where they alone are asked for, as OpenAI has it."""
    segments = [_rounded(msgspec.convert(segment, Segment, from_attributes=True)) for segment in result.segments]
    words = [_rounded(word) for segment in result.segments for word in segment.words]
    spoken = "" if result.info is None else name_of(result.info.language)
    whole = VerboseTranscription(
        task=task,
        language="english" if task == "translate" else spoken,
        duration=round(result.seconds, 3),
        text=result.text,
        segments=segments if "segment" in granularities or not granularities else msgspec.UNSET,
        words=words if "word" in granularities else msgspec.UNSET,
        usage=DurationUsage(seconds=round(result.seconds, 3)),
    )
    return msgspec.json.encode(whole)


def _rounded(spoken: Spoken) -> Spoken:
    """With times in milliseconds: engines give sums of fractions, such as 8.980000000000004."""
    return msgspec.structs.replace(spoken, start=round(spoken.start, 3), end=round(spoken.end, 3))


def srt(segments: Sequence[TranscriptionSegment]) -> str:
    """SubRip: numbered from 1, milliseconds behind a comma."""
    shown = [segment for segment in segments if segment.text.strip()]
    return "".join(
        f"{number}\n{_span(segment, ',')}\n{_cue(segment.text)}\n\n" for number, segment in enumerate(shown, 1)
    )


def vtt(segments: Sequence[TranscriptionSegment]) -> str:
    """WebVTT, whose text has three characters with a meaning of their own."""
    shown = [segment for segment in segments if segment.text.strip()]
    return "WEBVTT\n\n" + "".join(f"{_span(segment, '.')}\n{_escape(_cue(segment.text))}\n\n" for segment in shown)


def timestamp(seconds: float, point: str) -> str:
    """Hours, minutes, seconds and milliseconds, rounded to the nearest; hours grow beyond two digits."""
    total = max(0, round(seconds * 1000))
    minutes, milliseconds = divmod(total, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{milliseconds // 1000:02}{point}{milliseconds % 1000:03}"


def _span(segment: TranscriptionSegment, point: str) -> str:
    return f"{timestamp(segment.start, point)} --> {timestamp(segment.end, point)}"


def _cue(text: str) -> str:
    """One line: an empty line would end the cue, and an arrow begin another."""
    return " ".join(text.split()).replace("-->", "->")


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
