"""One job, between its event loop, its own thread and the engine's."""

from __future__ import annotations

import contextlib
import threading

import anyio

from ark.engines.transcription import TranscriptionInfo, TranscriptionJob, TranscriptionSegment
from ark_backends.kit.results import ResultQueue


class Cancelled(Exception):
    """Nobody waits for the job any more."""


class Ended:
    """The job has given its last segment."""


Result = TranscriptionInfo | TranscriptionSegment | Ended


class WhisperJob(ResultQueue[Result]):
    """A job that has entered, with its results. Created and read on the job's event loop."""

    def __init__(self, request: TranscriptionJob) -> None:
        super().__init__()
        self.request = request
        self.over = False
        """Finished, failed or cancelled: nothing more is computed for it. Set by any thread."""
        self.begun = False
        self.computing = False
        """It has a worker."""
        self.transcribed = 0.0
        """Seconds of the recording up to the end of the last segment."""
        self.turn = threading.Event()
        """A worker is free for its next window, or it is over."""
        self._reading = False
        self._lock = threading.Lock()
        self._file_free = anyio.Event()

    def check(self) -> None:
        """Raises Cancelled when the job is over."""
        if self.over:
            raise Cancelled

    def begin_reading(self) -> None:
        """Begin to read the file, on the job's thread. Raises Cancelled when the job is over."""
        with self._lock:
            self.check()
            self._reading = True

    def end_reading(self) -> None:
        with self._lock:
            self._reading = False
        with contextlib.suppress(RuntimeError):  # the event loop may be closed
            self.call_soon(self._file_free.set)

    async def leave(self) -> None:
        """End the job, on its event loop: when this returns, its file is not read any more."""
        with self._lock:
            self.over = True
            reading = self._reading
        if reading:
            with anyio.CancelScope(shield=True):
                await self._file_free.wait()
