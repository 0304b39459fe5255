"""The audio files that ARK's tests use: `python -m tools.training.speech.samples --out tests/data/audio`.

One talk in six formats, and one longer than a window of 30 seconds. `spoken.json` says what is said and when.
"""

import argparse
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from tools.training.speech.espeak import Interval, Voice, speaker

TALK = (
    "The red car is near the old bridge.",
    "Anna bought seven green bottles on Monday.",
)
STORY = (
    "Hello Peter, the station is very quiet today.",
    "Maria travelled from London to Berlin in October.",
    "She found a small silver key under the table.",
    "Where is your blue umbrella?",
    "Thomas has twelve books and an old piano.",
    "Please bring the coffee to Helen.",
    "There are forty five sheep near the river.",
    "On the island we can remember red, green, yellow and black.",
    "The teacher waited at the library in the evening.",
    "My brother sold the bicycle on Friday.",
    "David opened the window in the kitchen.",
    "Thank you, Julia.",
)
FORMATS = {
    "wav": ("wav", "pcm_s16le", 16000),
    "flac": ("flac", "flac", 16000),
    "mp3": ("mp3", "libmp3lame", 24000),
    "ogg": ("ogg", "libopus", 48000),
    "webm": ("webm", "libopus", 48000),
    "m4a": ("mp4", "aac", 22050),
}
"""Container, codec and sampling rate by file ending."""


def talk(sentences: tuple[str, ...], voice: Voice, pause: float) -> tuple[NDArray[np.int16], list[dict[str, Any]]]:
    """The sentences one after another at espeak's rate, and the times of the sentences and of their words."""
    said: list[NDArray[np.int16]] = []
    segments: list[dict[str, Any]] = []
    position = 0
    for sentence in sentences:
        speech = speaker().say(sentence, voice)
        begin = position / speech.rate

        def moved(interval: Interval, begin: float = begin) -> dict[str, Any]:
            start, end = round(interval.start + begin, 3), round(interval.end + begin, 3)
            return {"name": interval.name, "start": start, "end": end}

        words = [moved(word) for word in speech.words]
        segments.append({"text": sentence, "start": words[0]["start"], "end": words[-1]["end"], "words": words})
        end = round(speech.words[-1].end * speech.rate) + round(pause * speech.rate)
        samples = np.zeros(end, np.int16)
        samples[: len(speech.samples)] = speech.samples[:end]
        said.append(samples)
        position += end
    return np.concatenate(said), segments


def write(path: Path, samples: NDArray[np.int16], rate: int) -> None:
    """Encode mono samples as the path's ending says."""
    container, codec, coded_rate = FORMATS[path.suffix[1:]]
    with av.open(path, "w", format=container) as output:
        stream = output.add_stream(codec, rate=coded_rate, layout="mono")
        if codec not in ("pcm_s16le", "flac"):
            stream.bit_rate = 32000
        stream.time_base = Fraction(1, coded_rate)
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=coded_rate)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = rate
        fifo = av.AudioFifo()
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            part.pts = None
            fifo.write(part)
        size = stream.codec_context.frame_size or 4096
        while (part := fifo.read(size, partial=True)) is not None:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    spoken: dict[str, Any] = {}
    rate = speaker().rate
    samples, segments = talk(TALK, Voice("en+m3", rate=150), pause=0.6)
    for ending in FORMATS:
        write(out / f"talk.{ending}", samples, rate)
        spoken[f"talk.{ending}"] = {"duration": round(len(samples) / rate, 3), "segments": segments}
    samples, segments = talk(STORY, Voice("en-us+f2", rate=150), pause=0.7)
    write(out / "story.ogg", samples, rate)
    spoken["story.ogg"] = {"duration": round(len(samples) / rate, 3), "segments": segments}
    (out / "spoken.json").write_text(json.dumps(spoken, indent=1) + "\n")


if __name__ == "__main__":
    main()
