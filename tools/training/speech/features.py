"""Log-mel features as Whisper defines them (Radford et al. 2022), from samples and in parts.

80 mel bands of Slaney's scale over 0 to 8 kHz, frames of 25 ms every 10 ms. The power of each band is kept
before it is clamped and scaled: powers of things heard together can be added, which makes a window from clips.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

RATE = 16000
HOP = 160
SIZE = 400
BANDS = 80
FRAMES = 3000
"""Frames of a window of 30 seconds."""

Array = NDArray[np.float32]


@cache
def filters() -> Array:
    """The mel filters, (80, 201)."""
    frequencies = np.linspace(0, RATE / 2, SIZE // 2 + 1)
    # Slaney's scale: linear below 1 kHz, logarithmic above.
    step, corner = 200 / 3, 1000.0
    ratio = np.log(6.4) / 27
    top = corner / step + np.log(RATE / 2 / corner) / ratio
    marks = np.linspace(0, top, BANDS + 2)
    edges = np.where(marks < corner / step, marks * step, corner * np.exp(ratio * (marks - corner / step)))
    slopes = edges[:, None] - frequencies[None]
    widths = np.diff(edges)
    rising = -slopes[:-2] / widths[:-1, None]
    falling = slopes[2:] / widths[1:, None]
    weights = np.maximum(0, np.minimum(rising, falling))
    weights *= (2 / (edges[2:] - edges[:-2]))[:, None]
    return weights.astype(np.float32)


@cache
def _window() -> Array:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SIZE) / SIZE)).astype(np.float32)


def spectra(samples: Array) -> NDArray[np.complex128]:
    """What powers are the squares of, (frames, 201); frame i is centred on sample 160 i, silence stands around them."""
    count = len(samples) // HOP + 1
    padded = np.pad(samples, (SIZE // 2, SIZE // 2 + HOP))
    frames = np.lib.stride_tricks.sliding_window_view(padded, SIZE)[::HOP][:count]
    return np.fft.rfft(frames * _window(), axis=1)


def powers(samples: Array) -> Array:
    """The power of each band, (frames, 80), with frames as of `spectra`."""
    spectrum = spectra(samples)
    return ((spectrum.real**2 + spectrum.imag**2).astype(np.float32)) @ filters().T


def scaled(power: Array, loudest: float | None = None) -> Array:
    """Powers as the model reads them; `loudest` is the largest log10 power of the whole recording."""
    logarithm = np.log10(np.maximum(power, 1e-10))
    peak = float(logarithm.max()) if loudest is None else loudest
    return ((np.maximum(logarithm, peak - 8.0) + 4.0) / 4.0).astype(np.float32)
