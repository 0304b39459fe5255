"""Audio for tests of transcription, generated when needed."""

from __future__ import annotations

import io
from typing import Any

RATE = 16_000

CONTAINERS = {
    "wav": "pcm_s16le",
    "flac": "flac",
    "mp3": "libmp3lame",
    "ogg": "libopus",
    "webm": "libopus",
    "mp4": "aac",
}
"""Formats, each with its usual codec. m4a is mp4."""


def noise(seconds: float, seed: int = 0) -> Any:
    """Samples at 16 kHz, float32."""
    import numpy

    draw = numpy.random.default_rng(seed)
    return (0.2 * draw.standard_normal(int(seconds * RATE))).astype(numpy.float32)


def file_of(samples: Any, container: str = "wav", rate: int = RATE) -> io.BytesIO:
    """The samples as a file of a format, at its beginning."""
    import av
    import numpy

    made = io.BytesIO()
    with av.open(made, "w", format=container) as output:
        stream = output.add_stream(CONTAINERS[container], rate=rate, layout="mono")
        packed = (numpy.clip(samples, -1, 1) * 32767).astype(numpy.int16)[None]
        frame = av.AudioFrame.from_ndarray(packed, format="s16", layout="mono")
        frame.rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    made.seek(0)
    return made


def picture(container: str = "mp4", codec: str = "mpeg4") -> io.BytesIO:
    """A film of four frames without sound, or with the format image2pipe a PNG."""
    import av
    import numpy

    made = io.BytesIO()
    with av.open(made, "w", format=container) as output:
        stream = output.add_stream(codec, rate=4)
        stream.width = stream.height = 64
        stream.pix_fmt = "rgb24" if codec == "png" else "yuv420p"
        for _ in range(1 if codec == "png" else 4):
            frame = av.VideoFrame.from_ndarray(numpy.zeros((64, 64, 3), numpy.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    made.seek(0)
    return made
