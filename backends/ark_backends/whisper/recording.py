"""A recording as a model needs it: its spectrogram, and where somebody speaks. Its sound is not kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
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

LONGEST_STRETCH = 600 * SAMPLE_RATE
"""Samples of a stretch that is cut at last, somewhere in its last `_CUT_WITHIN`."""
_CUT_WITHIN = 60 * SAMPLE_RATE


@dataclass
class Recording:
    """What has been heard of a recording."""

    samples: int
    """Its length, silence included."""
    features: Array | Features | None = None
    """The spectrogram of what the model is to hear; None where it is computed from `stretches`."""
    speech: list[Speech] = field(default_factory=list)
    """The pieces of which `features` is, one behind the other; empty where it is of the whole."""
    stretches: Sequence[Stretch] = ()
    """The sound, for windows that are computed together."""

    @property
    def duration(self) -> float:
        return self.samples / SAMPLE_RATE


@dataclass(frozen=True)
class Stretch:
    """Some minutes of sound in a file."""

    file: IO[bytes]
    start: int
    """In samples of the recording; so is `end`."""
    end: int

    def read(self) -> Array:
        self.file.seek(2 * self.start)
        return _floats(numpy.frombuffer(self.file.read(2 * (self.end - self.start)), numpy.int16))


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
        stretches = list(_stretches(windows, scratch, check))
        return Recording(stretches[-1].end, stretches=stretches)
    if options.vad is False:
        mel, samples = LogMel(extractor, scratch, check), 0
        for window in windows:
            mel.push(_floats(window))
            samples += len(window)
        return Recording(samples, mel.finish())
    return _speech_alone(windows, extractor, VadConfig() if options.vad is True else options.vad, scratch, check)


def _stretches(windows: Iterable[Samples], scratch: IO[bytes], check: Callable[[], None]) -> Iterator[Stretch]:
    """Write the sound into `scratch`, and cut it where it is quiet: whole, an hour would take 0.35 GB to compute."""
    start, written = 0, 0
    minute = numpy.empty(0, numpy.int16)
    for window in windows:
        check()
        scratch.write(window.tobytes())
        written += len(window)
        minute = numpy.concatenate([minute, window])[-_CUT_WITHIN:]
        if written - start >= LONGEST_STRETCH:
            end = written - len(minute) + _quietest(minute)
            yield Stretch(scratch, start, end)
            start = end
    yield Stretch(scratch, start, written)


def _quietest(samples: Samples) -> int:
    """The middle of the quietest tenth of a second."""
    size = SAMPLE_RATE // 10
    tenths = numpy.abs(samples[: len(samples) // size * size].astype(numpy.int32)).reshape(-1, size)
    return int(tenths.sum(axis=1).argmin()) * size + size // 2


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
