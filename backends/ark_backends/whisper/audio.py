"""From a file as it was sent to samples: whatever PyAV decodes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import IO, Any

import av
import av.error
import numpy
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from ark.errors import BadRequest, UnsupportedMediaType

SAMPLE_RATE = 16_000


def decode(
    file: IO[bytes], *, max_seconds: float | None = None, check: Callable[[], None] = lambda: None
) -> NDArray[numpy.float32]:
    """The sound of a file, mono at 16 kHz, of numbers from -1 to 1.

    Broken packets are left out, and a file that breaks off ends there. `check` is called before each packet: what it
    raises ends the decoding. No more than `max_seconds` of sound are ever held. Raises UnsupportedMediaType for what
    is not audio, and BadRequest for a file without sound or with too much.
    """
    parts: list[NDArray[numpy.int16]] = []
    samples = 0
    limit = None if max_seconds is None else int(max_seconds * SAMPLE_RATE)
    try:
        container = av.open(file, mode="r", metadata_errors="ignore")
    except (av.error.FFmpegError, ValueError) as error:
        check()
        raise UnsupportedMediaType("The file is not audio in a format that can be read.", param="file") from error
    with container:
        if not container.streams.audio:
            raise BadRequest("The file has no audio track.", param="file", code="no_audio")
        for part in _resampled(_frames(container, check), limit):
            samples += part.size
            if limit is not None and samples > limit:
                raise _too_long(limit)
            parts.append(part)
    if not samples:
        raise BadRequest("The file holds no sound.", param="file", code="no_audio")
    return numpy.concatenate(parts).astype(numpy.float32) / 32768.0


def _frames(container: Any, check: Callable[[], None]) -> Iterator[AudioFrame]:
    """What can be decoded of the first audio track."""
    packets = container.demux(container.streams.audio[0])
    while True:
        check()
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, ValueError):
            # The container itself is broken from here on.
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        yield from frames


def _resampled(frames: Iterator[AudioFrame], limit: int | None) -> Iterator[NDArray[numpy.int16]]:
    """Samples at 16 kHz, mono."""
    for shape, same in itertools.groupby(frames, lambda frame: (frame.format.name, frame.layout.name, frame.rate)):
        # In the middle of a file the number of channels or the rate may change, which a resampler does not follow.
        rate = shape[2]
        if not rate:
            continue
        resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        for frame in same:
            # A frame at a rate of 1 Hz is over an hour long: refused before it is resampled.
            if limit is not None and frame.samples * SAMPLE_RATE // rate > limit + SAMPLE_RATE:
                raise _too_long(limit)
            frame.pts = None
            yield from (made.to_ndarray()[0] for made in resampler.resample(frame))
        yield from (made.to_ndarray()[0] for made in resampler.resample(None))


def _too_long(limit: int) -> BadRequest:
    message = f"The recording is longer than {limit / SAMPLE_RATE:g} seconds."
    return BadRequest(message, param="file", code="audio_too_long")
