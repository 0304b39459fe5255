"""From a file as it was sent to samples. FFmpeg reads it in a child process: see `ark_backends.whisper.decoder`."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Generator
from typing import IO

import numpy
from numpy.typing import NDArray

from ark.errors import APIError, BadRequest, Unavailable, UnsupportedMediaType
from ark_backends.kit.child_process import ChildDied, ChildFailedToStart, ChildPool, ChildProcess
from ark_backends.whisper.protocol import (
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
    STOP,
)

log = logging.getLogger("ark.whisper")

Samples = NDArray[numpy.int16]


class AudioDecoder:
    """Decodes recordings, each in a child process of its own that the next one uses again. Safe to use from any
    thread."""

    def __init__(self, *, idle: int = 2) -> None:
        """So many children stay when nothing is to be done."""
        self._children = ChildPool("ark_backends.whisper.decoder", idle=idle)

    def start(self) -> None:
        """Have a child ready, for the first recording is not to wait for it. Raises `ChildFailedToStart`."""
        self._children.start()

    def close(self) -> None:
        self._children.close()

    def decode(
        self, file: IO[bytes], *, max_seconds: float | None = None, check: Callable[[], None] = lambda: None
    ) -> Generator[Samples, None, None]:
        """The sound of a file, mono at 16 kHz, in windows of some seconds.

        Broken packets are left out, and a file that breaks off ends there. `check` is called before each read and each
        window, and ten times a second meanwhile: what it raises ends the decoding. Raises UnsupportedMediaType for what
        is not audio, BadRequest for a file without sound, with too much, or of a kind that no speech has, and
        Unavailable where no child can be started.
        """
        limit = None if max_seconds is None else int(max_seconds * SAMPLE_RATE)
        try:
            with self._children.child() as child:
                # Raised outside, for the child is well.
                problem = yield from _windows(child, file, limit, check)
        except ChildFailedToStart as error:
            log.error("recordings cannot be decoded: %s", error)
            raise Unavailable("The recording cannot be decoded now.", code="decoder_unavailable") from error
        except ChildDied as error:
            check()
            log.warning("a decoder died of a recording: %s", error)
            raise _undecodable() from error
        if problem is not None:
            raise problem


def _windows(
    child: ChildProcess, file: IO[bytes], limit: int | None, check: Callable[[], None]
) -> Generator[Samples, None, Exception | None]:
    """Serve a child until it is done with a file. Returns what is wrong."""
    child.send(JOB, SIZE.pack(file.seek(0, io.SEEK_END)), check=check)
    samples = 0
    problem: Exception | None = None
    while True:
        kind, payload = child.receive(check=check)
        if kind == END:
            return problem or _problem(payload, samples)
        try:
            check()
        except Exception as error:  # noqa: BLE001 - the caller's own, which the child need not die of
            problem = error
        if problem is not None:
            child.send(STOP)
        elif kind == READ:
            offset, size = RANGE.unpack(payload)
            file.seek(offset)
            child.send(DATA, file.read(min(size, READ_SIZE)), check=check)
        elif kind == SAMPLES:
            # The next window is decoded while the caller works on this one.
            window = numpy.frombuffer(payload, "<i2").astype(numpy.int16, copy=False)
            samples += len(window)
            if limit is not None and samples > limit:
                problem = _too_long(limit)
                child.send(STOP)
                continue
            child.send(GO, check=check)
            yield window
        else:
            raise ChildDied(f"it sends {kind!r}")


def _problem(name: bytes, samples: int) -> APIError | None:
    """What the child has found, in words for the client."""
    if name == NOT_AUDIO:
        return UnsupportedMediaType("The file is not audio in a format that can be read.", param="file")
    if name == NO_TRACK:
        return BadRequest("The file has no audio track.", param="file", code="no_audio")
    if name == NOT_SPEECH:
        message = "The recording's rate, channels or frames are none that speech is recorded with."
        return BadRequest(message, param="file", code="invalid_audio")
    if name:
        return _undecodable()
    if not samples:
        return BadRequest("The file holds no sound.", param="file", code="no_audio")
    return None


def _undecodable() -> BadRequest:
    message = "The recording cannot be decoded in reasonable time and memory."
    return BadRequest(message, param="file", code="invalid_audio")


def _too_long(limit: int) -> BadRequest:
    message = f"The recording is longer than {limit / SAMPLE_RATE:g} seconds."
    return BadRequest(message, param="file", code="audio_too_long")
