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

OTHERS = {
    ("aiff", "pcm_s16be"): 16_000,
    ("au", "pcm_s16be"): 16_000,
    ("caf", "pcm_s16le"): 16_000,
    ("w64", "pcm_s16le"): 16_000,
    ("wv", "wavpack"): 16_000,
    ("mov", "alac"): 16_000,
    ("wav", "pcm_mulaw"): 16_000,
    ("wav", "pcm_f32le"): 16_000,
    ("wav", "adpcm_ms"): 16_000,
    ("wav", "adpcm_ima_wav"): 16_000,
    ("wav", "g722"): 16_000,
    ("adts", "aac"): 16_000,
    ("latm", "aac"): 16_000,
    ("ac3", "ac3"): 48_000,
    ("eac3", "eac3"): 48_000,
    ("asf", "wmav2"): 44_100,
    ("amr", "libopencore_amrnb"): 8_000,
    ("3gp", "libopencore_amrnb"): 8_000,
    ("avi", "mp3"): 16_000,
    ("flv", "mp3"): 44_100,
    ("mpeg", "mp2"): 16_000,
    ("mpegts", "mp2"): 16_000,
    ("matroska", "pcm_s16le"): 16_000,
}
"""More formats, with a codec each and a rate that it takes."""


def noise(seconds: float, seed: int = 0) -> Any:
    """Samples at 16 kHz, float32."""
    import numpy

    draw = numpy.random.default_rng(seed)
    return (0.2 * draw.standard_normal(int(seconds * RATE))).astype(numpy.float32)


def file_of(samples: Any, container: str = "wav", rate: int = RATE, codec: str | None = None) -> io.BytesIO:
    """The samples as a file of a format, at its beginning."""
    import av
    import numpy

    made = io.BytesIO()
    with av.open(made, "w", format=container) as output:
        stream = output.add_stream(codec or CONTAINERS[container], rate=rate, layout="mono")
        if container == "asf":
            stream.bit_rate = 64_000  # it has no rate of its own
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
