"""A recording as a model needs it: its spectrogram, and where somebody speaks. Its sound is not kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import IO

import numpy
from faster_whisper.feature_extractor import FeatureExtractor

from ark_backends.whisper.audio import Samples
from ark_backends.whisper.features import Array, Features, LogMel
from ark_backends.whisper.options import VadConfig, WhisperOptions
from ark_backends.whisper.protocol import SAMPLE_RATE
from ark_backends.whisper.speech import Speech, SpeechDetector

KEPT_IN_MEMORY = 8 << 20
"""Bytes of a spectrogram that are kept in memory: four minutes of 80 bands. What is longer goes to a temporary file."""

_WINDOW = 4 * SAMPLE_RATE


@dataclass
class Recording:
    """What has been heard of a recording."""

    samples: int
    """Its length, silence included."""
    features: Array | Features | None = None
    """The spectrogram of what the model is to hear; None where it is computed from `sound`."""
    speech: list[Speech] = field(default_factory=list)
    """The pieces of which `features` is, one behind the other; empty where it is of the whole."""
    sound: Array | None = None
    """The whole in memory, for windows that are computed together."""

    @property
    def duration(self) -> float:
        return self.samples / SAMPLE_RATE


def scratch_file() -> IO[bytes]:
    """A file for what `listen` keeps of one recording."""
    return tempfile.SpooledTemporaryFile(KEPT_IN_MEMORY)


def listen(
    windows: Iterable[Samples],
    extractor: FeatureExtractor,
    options: WhisperOptions,
    scratch: IO[bytes],
    check: Callable[[], None] = lambda: None,
) -> Recording:
    """Take a recording in as it is decoded. What is returned reads `scratch`. `check` is called before each minute."""
    if options.batch > 1:
        parts = list(windows)
        whole = _floats(numpy.concatenate(parts))
        return Recording(len(whole), sound=whole)
    if options.vad is False:
        mel, samples = LogMel(extractor, scratch, check), 0
        for window in windows:
            mel.push(_floats(window))
            samples += len(window)
        return Recording(samples, mel.finish())
    return _speech_alone(windows, extractor, VadConfig() if options.vad is True else options.vad, scratch, check)


def _speech_alone(
    windows: Iterable[Samples],
    extractor: FeatureExtractor,
    options: VadConfig,
    scratch: IO[bytes],
    check: Callable[[], None],
) -> Recording:
    detector, samples = SpeechDetector(options), 0
    with tempfile.SpooledTemporaryFile(KEPT_IN_MEMORY) as kept:
        for window in windows:
            detector.push(_floats(window))
            kept.write(window.tobytes())
            samples += len(window)
        speech = detector.finish()
        mel = LogMel(extractor, scratch, check)
        for piece in speech:
            kept.seek(2 * piece.start)
            left = piece.end - piece.start
            while left:
                read = numpy.frombuffer(kept.read(2 * min(left, _WINDOW)), numpy.int16)
                mel.push(_floats(read))
                left -= len(read)
    return Recording(samples, mel.finish(), speech)


def _floats(samples: Samples) -> Array:
    """From -1 to 1."""
    return samples.astype(numpy.float32) / numpy.float32(32768.0)
