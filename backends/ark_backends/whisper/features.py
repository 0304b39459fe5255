"""The log-mel spectrogram of a recording, computed as its sound comes and kept out of memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO, Any

import numpy
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

PIECE = 6_000
"""Frames of 10 ms that are computed at a time: a minute, which needs 25 MB."""

_READ_AT_ONCE = 6_000
"""Frames of a slice that are read; a longer slice is a view. The model takes 3,000 at a time."""

Array = NDArray[numpy.float32]


class Features:
    """A spectrogram of shape (mels, frames) that is read window by window, as faster-whisper slices it.

    Whisper's scale reaches 8 down from the loudest frame of the whole recording, so it is applied to what is read.
    """

    def __init__(self, file: IO[bytes], loudest: numpy.float32, mels: int, start: int, stop: int) -> None:
        """`file` has the frames one after the other; this are those from `start` to `stop`."""
        self._file = file
        self._loudest = loudest
        self._start = start
        self.shape = (mels, stop - start)

    def __getitem__(self, key: tuple[Any, slice]) -> Any:
        """Some frames, as an array where they are few."""
        mels, count = self.shape
        start, stop, _ = key[-1].indices(count)
        start, stop = self._start + start, self._start + max(start, stop)
        if stop - start > _READ_AT_ONCE:
            return Features(self._file, self._loudest, mels, start, stop)
        self._file.seek(4 * mels * start)
        read = self._file.read(4 * mels * (stop - start))
        found = numpy.frombuffer(read, numpy.float32).reshape(-1, mels).T.copy()
        numpy.maximum(found, self._loudest - numpy.float32(8.0), out=found)
        found += 4.0
        found /= 4.0
        return found


class LogMel:
    """Computes what faster-whisper's extractor does, from the same numbers, in the memory of a minute.

    Computed in one piece, as there, an hour of sound takes 2 GB for a moment.
    """

    def __init__(self, whole: FeatureExtractor, scratch: IO[bytes], check: Callable[[], None] = lambda: None) -> None:
        """The frames are written into `scratch`, an empty file, 320 bytes each. `check` is called before each piece."""
        self._whole = whole
        self._check = check
        self._window = numpy.hanning(whole.n_fft + 1)[:-1].astype(numpy.float32)
        self._mels = whole.mel_filters.shape[0]
        self._waiting = numpy.empty(0, numpy.float32)
        """Samples that no frame has begun with yet."""
        self._begun = False
        self._frames = 0
        self._loudest = numpy.float32(-numpy.inf)
        self._room = scratch

    def push(self, samples: Array) -> None:
        """The next samples."""
        whole = self._whole
        self._waiting = numpy.concatenate([self._waiting, samples])
        if not self._begun and len(self._waiting) > PIECE * whole.hop_length:
            self._begun = True
            self._waiting = numpy.pad(self._waiting, (whole.n_fft // 2, 0), mode="reflect")
        while self._begun and len(self._waiting) >= (PIECE - 1) * whole.hop_length + whole.n_fft:
            self._compute(PIECE)

    def finish(self, padding: int = 160) -> Array | Features:
        """The whole, of shape (mels, frames), with so many samples of silence at its end. It is read from `scratch`."""
        whole = self._whole
        if not self._begun:
            made: Array = whole(self._waiting, padding)
            return made
        self._waiting = numpy.pad(self._waiting, (0, padding))
        self._waiting = numpy.pad(self._waiting, (0, whole.n_fft // 2), mode="reflect")
        # The frame behind the last is left away, as there.
        self._compute((len(self._waiting) - whole.n_fft) // whole.hop_length)
        return Features(self._room, self._loudest, self._mels, 0, self._frames)

    def _compute(self, count: int) -> None:
        """The next frames, into the file."""
        self._check()
        whole = self._whole
        rows = numpy.lib.stride_tricks.sliding_window_view(self._waiting, whole.n_fft)[:: whole.hop_length][:count]
        power = numpy.abs(numpy.fft.rfft(rows * self._window).astype(numpy.complex64).T) ** 2
        mels = numpy.log10(numpy.maximum(whole.mel_filters @ power, 1e-10))
        self._loudest = max(self._loudest, mels.max())
        self._room.write(mels.T.tobytes())
        self._frames += count
        self._waiting = self._waiting[count * whole.hop_length :]


class Prepared:
    """An extractor whose features are there already."""

    def __init__(self, whole: FeatureExtractor, features: Array | Features) -> None:
        self._whole = whole
        self._features = features

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def __call__(self, *_: Any, **__: Any) -> Array | Features:
        return self._features
