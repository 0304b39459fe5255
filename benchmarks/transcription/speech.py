"""The audio to transcribe: sentences of a small vocabulary, spoken by espeak-ng."""

from __future__ import annotations

import random
import wave
from pathlib import Path

RECORDINGS = 8


def make_recordings(folder: Path, seconds: float) -> list[Path]:
    """Eight WAV files with this many seconds in total."""
    import numpy

    from tools.training.speech.espeak import Voice, available, speaker
    from tools.training.speech.sentences import sentence

    if not available():
        raise SystemExit("the speech is made by espeak-ng: install its library, libespeak-ng1 on Debian")
    draw = random.Random(0)
    files = []
    for number in range(RECORDINGS):
        parts, length, wanted, rate = [], 0, 0, 0
        while not rate or length < wanted:
            speech = speaker().say(sentence(draw, "train"), Voice("en"))
            rate = speech.rate
            wanted = int(seconds / RECORDINGS * rate)
            parts += [speech.samples, numpy.zeros(rate // 2, numpy.int16)]
            length = sum(map(len, parts))
        path = folder / f"{number}.wav"
        with wave.open(str(path), "wb") as output:
            output.setnchannels(1)
            output.setsampwidth(2)
            output.setframerate(rate)
            output.writeframes(numpy.concatenate(parts)[:wanted].astype("<i2").tobytes())
        files.append(path)
    return files
