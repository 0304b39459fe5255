"""Where somebody speaks in a recording, by faster-whisper's detector, found as the sound comes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy
from faster_whisper.vad import get_vad_model
from numpy.typing import NDArray

from ark_backends.whisper.options import VadConfig
from ark_backends.whisper.protocol import SAMPLE_RATE

WINDOW, CONTEXT = 512, 64
"""Samples that the detector judges at once, and of those before them that it sees."""

_BATCH = 10_000 * WINDOW
"""Samples that are judged in one pass, as many as faster-whisper takes: five minutes, in 70 MB."""

HYSTERESIS = 0.15
"""How far below its threshold the probability of speech falls before there is silence."""


@dataclass
class Speech:
    """A piece of speech, in samples of the recording."""

    start: int
    end: int


class SpeechDetector:
    """Takes a recording window by window."""

    def __init__(self, options: VadConfig) -> None:
        self._options = options
        self._session = get_vad_model().session
        self._memory = [numpy.zeros((1, 1, 128), numpy.float32) for _ in "hc"]
        self._context = numpy.zeros(CONTEXT, numpy.float32)
        self._waiting = numpy.empty(0, numpy.float32)
        self._probabilities: list[NDArray[numpy.float32]] = []
        self._length = 0

    def push(self, samples: NDArray[numpy.float32]) -> None:
        self._length += len(samples)
        self._waiting = numpy.concatenate([self._waiting, samples])
        while len(self._waiting) >= _BATCH:
            self._judge(self._waiting[:_BATCH])
            self._waiting = self._waiting[_BATCH:]

    def finish(self) -> list[Speech]:
        self._judge(numpy.pad(self._waiting, (0, WINDOW - len(self._waiting) % WINDOW)))
        return find_speech(numpy.concatenate(self._probabilities), self._length, self._options)

    def _judge(self, samples: NDArray[numpy.float32]) -> None:
        rows = samples.reshape(-1, WINDOW)
        before = numpy.concatenate([self._context[None], rows[:-1, -CONTEXT:]])
        self._context = rows[-1, -CONTEXT:]
        given = {"input": numpy.concatenate([before, rows], 1), "h": self._memory[0], "c": self._memory[1]}
        found, *self._memory = self._session.run(None, given)
        self._probabilities.append(found.reshape(-1))


def find_speech(probabilities: NDArray[numpy.float32], length: int, options: VadConfig) -> list[Speech]:
    """The speech in so many samples, by how likely there is some in each `WINDOW`.

    Silence has to last before it ends a piece, and what is left is widened into the silence around it.
    """
    quiet = max(options.threshold - HYSTERESIS, 0.01)
    shortest = options.min_speech_duration_ms * SAMPLE_RATE // 1000
    least_silence = options.min_silence_duration_ms * SAMPLE_RATE // 1000
    found: list[Speech] = []
    start: int | None = None
    silence: int | None = None
    for place, probability in enumerate(probabilities.tolist()):
        at = place * WINDOW
        if probability >= options.threshold:
            silence = None
            start = at if start is None else start
        elif probability < quiet and start is not None:
            silence = at if silence is None else silence
            if at - silence >= least_silence:
                found.append(Speech(start, silence))
                start = silence = None
    if start is not None:
        found.append(Speech(start, length))
    found = [speech for speech in found if speech.end - speech.start > shortest]
    _widen(found, length, options.speech_pad_ms * SAMPLE_RATE // 1000)
    return found


def _widen(found: list[Speech], length: int, pad: int) -> None:
    if not found:
        return
    found[0].start = max(0, found[0].start - pad)
    for speech, following in itertools.pairwise(found):
        silence = following.start - speech.end
        more = pad if silence >= 2 * pad else silence // 2
        speech.end = min(length, speech.end + more)
        following.start = max(0, following.start - more)
    found[-1].end = min(length, found[-1].end + pad)
