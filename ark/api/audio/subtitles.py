"""SubRip and WebVTT, as OpenAI writes them."""

from __future__ import annotations

from collections.abc import Sequence

from ark.engines.transcription import TranscriptionSegment


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
