"""The program that decodes recordings: FFmpeg in a child process that may do nothing else.

`ark_backends.whisper.audio` starts it, and `ark_backends.whisper.protocol` says what the two tell each other.
"""

from __future__ import annotations

import importlib
import io
import itertools
import pkgutil
import time
from collections.abc import Iterator
from typing import Any

import av
import av.error
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from ark_backends.kit.sandbox import MEGABYTE, Channel, limit_cpu, serve
from ark_backends.whisper.protocol import (
    BLOCK_SIZE,
    DATA,
    END,
    GO,
    JOB,
    NO_TRACK,
    NOT_AUDIO,
    NOT_SPEECH,
    RANGE,
    READ,
    READ_SIZE,
    SAMPLE_RATE,
    SAMPLES,
    SIZE,
    TOO_LARGE,
)

FORMATS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,asf,au,avi,caf,eac3,flac,flv,loas,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,mpegts,"
    "ogg,w64,wav,wv"
)
"""Files that hold sound, or films with sound. FFmpeg knows 350 more: pictures, playlists that name other files and
sessions that open sockets among them."""

CODECS = (
    "aac,aac_latm,ac3,adpcm_g722,adpcm_g726,adpcm_ima_qt,adpcm_ima_wav,adpcm_ms,adpcm_swf,adpcm_yamaha,alac,amrnb,amrwb,"
    "eac3,flac,g722,g726,gsm,gsm_ms,ilbc,mp1,mp1float,mp2,mp2float,mp3,mp3float,nellymoser,opus,libopus,speex,vorbis,"
    "wavpack,wmalossless,wmapro,wmav1,wmav2,wmavoice,"
    "pcm_alaw,pcm_mulaw,pcm_f32be,pcm_f32le,pcm_f64be,pcm_f64le,pcm_s16be,pcm_s16le,pcm_s24be,pcm_s24le,pcm_s32be,pcm_s32le,"
    "pcm_s8,pcm_u8,pcm_s16le_planar,pcm_s16be_planar,pcm_s8_planar,pcm_s24le_planar,pcm_s32le_planar,pcm_bluray,pcm_dvd"
)

RATES = range(2_000, 192_001)
"""Samples a second that recordings of speech have. FFmpeg builds a filter whose size grows with the rate."""

MAX_CHANNELS = 16

MAX_FRAME = 1 << 18
"""Samples of one frame: codecs have at most 65,536."""

MAX_STREAMS = 32

MEMORY = 128 * MEGABYTE
"""What decoding may add to the process. Two hours of speech take 30 MB, and the index of an MP4 the most of it."""

CPU_SECONDS = 10.0
"""CPU time before the first samples, and in all beyond what `PACE` gives."""

PACE = 20
"""Seconds of sound that one second of CPU has to give. FFmpeg decodes hundreds."""


class Refused(Exception):
    """The file will not be decoded. Its only argument is one of the names above."""


class Stopped(Exception):
    """The server wants no more of this file."""


class _RemoteFile(io.RawIOBase):
    """The server's file, read through the channel in large pieces."""

    def __init__(self, channel: Channel, size: int) -> None:
        self._channel = channel
        self._size = size
        self._place = 0
        self._start, self._cached = 0, b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, offset + (0, self._place, self._size)[whence])
        return self._place

    def read(self, size: int = -1) -> bytes:
        if not self._start <= self._place < self._start + len(self._cached):
            self._start, self._cached = self._place, self._fetch()
        at = self._place - self._start
        part = self._cached[at : at + min(size, READ_SIZE)]
        self._place += len(part)
        return part

    def _fetch(self) -> bytes:
        if self._place >= self._size:
            return b""
        self._channel.send(READ, RANGE.pack(self._place, READ_SIZE))
        kind, data = self._channel.receive()
        if kind != DATA:
            raise Stopped
        return data


class _Job:
    def __init__(self, channel: Channel, size: int) -> None:
        self._channel = channel
        self._file = _RemoteFile(channel, size)
        self._begin = time.process_time()
        self._sent = 0
        self._waiting = bytearray()

    def run(self) -> None:
        self._allow()
        try:
            container = av.open(
                self._file,
                metadata_errors="ignore",
                buffer_size=READ_SIZE // 4,
                io_open=_open_nothing,
                container_options={
                    "format_whitelist": FORMATS,
                    "codec_whitelist": CODECS,
                    "protocol_whitelist": "none",
                    "max_streams": str(MAX_STREAMS),
                },
            )
        except (av.error.FFmpegError, ValueError, IndexError, UnicodeError) as error:
            raise Refused(NOT_AUDIO) from error
        with container:
            if not container.streams.audio:
                raise Refused(NO_TRACK)
            for block in _resampled(_frames(container)):
                self._waiting += block
                if len(self._waiting) >= BLOCK_SIZE:
                    self._flush()
        self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        self._channel.send(SAMPLES, bytes(self._waiting))
        self._sent += len(self._waiting)
        self._waiting.clear()
        self._allow()
        if self._channel.receive()[0] != GO:
            raise Stopped

    def _allow(self) -> None:
        limit_cpu(self._begin + CPU_SECONDS + self._sent / (2 * SAMPLE_RATE * PACE))


def handle(channel: Channel) -> None:
    """Decode one recording."""
    kind, payload = channel.receive()
    if kind != JOB:
        raise ValueError(kind)
    outcome = b""
    try:
        _Job(channel, *SIZE.unpack(payload)).run()
    except Refused as refusal:
        outcome = refusal.args[0]
    except Stopped:
        pass
    except MemoryError:
        outcome = TOO_LARGE
    channel.send(END, outcome)


def _frames(container: Any) -> Iterator[AudioFrame]:
    """What can be decoded of the first audio track. Broken packets are left out; where the container itself is broken
    the recording ends."""
    stream = container.streams.audio[0]
    if stream.codec_context is None or stream.codec_context.name not in CODECS.split(","):
        raise Refused(NOT_AUDIO)
    stream.codec_context.thread_count = 1
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError):
            return
        if packet is None:
            return
        try:
            frames = packet.decode()
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError, IndexError):
            continue
        yield from frames


def _resampled(frames: Iterator[AudioFrame]) -> Iterator[bytes]:
    """Samples at 16 kHz, mono, 16 bits.

    In the middle of a file the number of channels or the rate may change, which a resampler does not follow.
    """
    for shape, same in itertools.groupby(frames, _shape):
        *_, rate, channels = shape
        if rate not in RATES or channels > MAX_CHANNELS:
            raise Refused(NOT_SPEECH)
        resampler = AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        for frame in same:
            if frame.samples > MAX_FRAME:
                raise Refused(NOT_SPEECH)
            frame.pts = None
            yield from map(_bytes, resampler.resample(frame))
        yield from map(_bytes, resampler.resample(None))


def _shape(frame: AudioFrame) -> tuple[str, str, int, int]:
    return frame.format.name, frame.layout.name, frame.rate, frame.layout.nb_channels


def _bytes(frame: AudioFrame) -> bytes:
    # A plane is padded to what processors like.
    return bytes(frame.planes[0])[: 2 * frame.samples]


def _open_nothing(*_: Any) -> Any:
    raise PermissionError


if __name__ == "__main__":
    # PyAV imports some of its modules when a stream needs them, which would be too late.
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in ("av.__main__", "av.datasets"):
            importlib.import_module(module.name)
    serve(handle, memory=MEMORY)
