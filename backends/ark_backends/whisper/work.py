"""One job, between its engine's thread and its event loop."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future

import anyio

from ark.engines.transcription import TranscriptionInfo, TranscriptionJob, TranscriptionSegment
from ark_backends.kit.results import poster

Result = TranscriptionInfo | TranscriptionSegment


class Cancelled(Exception):
    """Nobody waits for the job any more."""


class FileDone:
    """The file of a job is read no more."""


class Ended:
    """The job has given its last segment."""


Message = Result | Exception | FileDone | Ended


class Work:
    """A job that has entered. Made and read on the job's event loop."""

    def __init__(self, job: TranscriptionJob) -> None:
        self.job = job
        self.post = poster()
        self.file_done = anyio.Event()
        self.over = False
        """Finished, failed or cancelled: nothing more is computed for it. Set under the engine's lock."""
        self.begun = False
        self.running = False
        """A thread computes for it, which after a cancellation takes to the end of a window."""
        self.heard = 0.0
        """Seconds of the recording up to the end of the last segment."""
        self.future: Future[None] | None = None
        self._messages: deque[Result | Exception | Ended] = deque()
        self._arrived = anyio.Event()

    def check(self) -> None:
        """Raises Cancelled when the job is over."""
        if self.over:
            raise Cancelled

    def put(self, message: Message) -> None:
        """Runs on the job's event loop."""
        if isinstance(message, FileDone):
            self.file_done.set()
        else:
            self._messages.append(message)
            self._arrived.set()

    async def get(self) -> Result | None:
        """What has been recognised next; None at the end. Raises the error that ended the job."""
        while not self._messages:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        message = self._messages.popleft()
        if isinstance(message, Exception):
            raise message
        return None if isinstance(message, Ended) else message
