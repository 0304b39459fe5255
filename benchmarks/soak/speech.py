"""Audio to transcribe."""

from __future__ import annotations

import io
import math
import random
import wave
from array import array

RATE = 16_000


def speech(seconds: float = 2.0) -> bytes:
    """A WAV file of hums that come and go: no words, but what a model makes of it is the same each time."""
    draw = random.Random(5)
    samples = array("h")
    for _ in range(int(seconds * 5)):
        pitch, loud = draw.uniform(120, 400), draw.uniform(2000, 9000)
        for number in range(RATE // 5):
            swell = math.sin(math.pi * number / (RATE // 5))
            samples.append(int(loud * swell * math.sin(2 * math.pi * pitch * number / RATE)))
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples.tobytes())
    return file.getvalue()
