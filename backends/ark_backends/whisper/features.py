"""The log-mel spectrogram, computed piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy
from faster_whisper.feature_extractor import FeatureExtractor
from numpy.typing import NDArray

PIECE = 6_000
"""Frames of 10 ms that are computed at a time: a minute, which needs 25 MB."""


class PiecewiseExtractor:
    """What faster-whisper's extractor computes, from the same numbers, in the memory of a minute.

    Computed in one piece, as it does, an hour of sound takes 2 GB for a moment.
    """

    def __init__(self, whole: FeatureExtractor, check: Callable[[], None]) -> None:
        """`check` is called before each piece."""
        self._whole = whole
        self._check = check

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def __call__(self, waveform: NDArray[numpy.float32], padding: int = 160, **more: Any) -> NDArray[numpy.float32]:
        """(mels, frames) of samples at 16 kHz."""
        whole = self._whole
        if len(waveform) <= PIECE * whole.hop_length:
            made: NDArray[numpy.float32] = whole(waveform, padding, **more)
            return made
        window = numpy.hanning(whole.n_fft + 1)[:-1].astype(numpy.float32)
        half = whole.n_fft // 2
        samples = numpy.pad(numpy.pad(waveform, (0, padding)), half, mode="reflect")
        # The frame behind the last is left away, as there.
        frames = (len(samples) - whole.n_fft) // whole.hop_length
        mels = numpy.empty((whole.mel_filters.shape[0], frames), numpy.float32)
        rows = numpy.lib.stride_tricks.sliding_window_view(samples, whole.n_fft)[:: whole.hop_length]
        for start in range(0, frames, PIECE):
            self._check()
            piece = slice(start, min(start + PIECE, frames))
            power = numpy.abs(numpy.fft.rfft(rows[piece] * window).astype(numpy.complex64).T) ** 2
            mels[:, piece] = numpy.log10(numpy.maximum(whole.mel_filters @ power, 1e-10))
        numpy.maximum(mels, mels.max() - 8.0, out=mels)
        mels += 4.0
        mels /= 4.0
        return mels
