"""Subtitles, whatever was said and whenever."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from ark.api.audio.render import srt, timestamp, vtt
from ark.engines.transcription import TranscriptionSegment

SPAN = r"(\d{2,}:[0-5]\d:[0-5]\d[,.]\d{3}) --> (\d{2,}:[0-5]\d:[0-5]\d[,.]\d{3})"
LENGTH = st.floats(0, 400_000)


def segment(start: float, end: float, text: str) -> TranscriptionSegment:
    return TranscriptionSegment(
        id=0,
        seek=0,
        start=start,
        end=end,
        text=text,
        tokens=[],
        temperature=0.0,
        avg_logprob=0.0,
        compression_ratio=1.0,
        no_speech_prob=0.0,
    )


SEGMENTS = st.lists(st.builds(segment, LENGTH, LENGTH, st.text(max_size=20) | st.sampled_from(["a\n\nb", " --> "])))


@given(seconds=LENGTH)
def test_a_time_is_the_nearest_millisecond(seconds: float) -> None:
    hours, minutes, rest = timestamp(seconds, ".").split(":")
    assert abs(int(hours) * 3600 + int(minutes) * 60 + float(rest) - seconds) <= 0.000501
    assert int(minutes) < 60 > float(rest)


@given(segments=SEGMENTS)
def test_every_text_is_one_cue(segments: list[TranscriptionSegment]) -> None:
    shown = [one for one in segments if one.text.strip()]
    cues = srt(segments).split("\n\n")
    assert cues.pop() == ""
    assert len(cues) == len(shown)
    for number, cue in enumerate(cues, 1):
        place, span, text = cue.split("\n")
        assert int(place) == number
        assert re.fullmatch(SPAN, span)
        assert text.strip()
        assert "-->" not in text
    first, *rest = vtt(segments).split("\n\n")
    assert (first, rest.pop(), len(rest)) == ("WEBVTT", "", len(shown))
    for cue in rest:
        span, text = cue.split("\n")
        assert re.fullmatch(SPAN, span)
        assert not set("<>") & set(text)
        assert "&" not in re.sub(r"&(amp|lt|gt);", "", text)
