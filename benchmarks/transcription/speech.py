"""The audio to transcribe: the sentences that the tests have recordings of, in another order in each recording."""

from __future__ import annotations

import io
import json
import random
import wave
from pathlib import Path

RECORDINGS = 8
AUDIO = Path(__file__).parents[2] / "tests" / "data" / "audio"
RATE = 16_000
PAUSE = 0.5
"""Seconds between two sentences."""


def make_recordings(folder: Path, seconds: float) -> list[Path]:
    """Eight WAV files with this many seconds in total."""
    import numpy
    from faster_whisper import decode_audio

    samples = decode_audio(io.BytesIO((AUDIO / "story.ogg").read_bytes()), sampling_rate=RATE)
    spoken = json.loads((AUDIO / "spoken.json").read_text())["story"]
    sentences = [samples[int(one["start"] * RATE) : int(one["end"] * RATE)] for one in spoken]
    pause = numpy.zeros(int(PAUSE * RATE), numpy.float32)
    draw = random.Random(0)
    files = []
    for number in range(RECORDINGS):
        parts, length, wanted = [], 0, int(seconds / RECORDINGS * RATE)
        while length < wanted:
            parts += [draw.choice(sentences), pause]
            length = sum(map(len, parts))
        path = folder / f"{number}.wav"
        with wave.open(str(path), "wb") as output:
            output.setnchannels(1)
            output.setsampwidth(2)
            output.setframerate(RATE)
            output.writeframes((numpy.concatenate(parts)[:wanted] * 32767).astype("<i2").tobytes())
        files.append(path)
    return files
