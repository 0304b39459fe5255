"""The engine: decides whose window is computed next, while a thread for each recording computes it."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy

from ark.concurrency import Turns
from ark.engines.transcription import TranscriptionJob, TranscriptionSegment, TranscriptionStatus
from ark.errors import APIError, TooManyRequests
from ark_backends.kit.admission import request_failed
from ark_backends.kit.engine import Engine
from ark_backends.kit.fair_queue import FairQueue
from ark_backends.kit.results import ResultQueue
from ark_backends.whisper.audio import AudioDecoder
from ark_backends.whisper.job import Cancelled, Ended, Result, WhisperJob
from ark_backends.whisper.options import WhisperOptions
from ark_backends.whisper.protocol import SAMPLE_RATE
from ark_backends.whisper.recogniser import Recogniser, transcribe
from ark_backends.whisper.recording import listen, scratch_file

log = logging.getLogger("ark.whisper")

LONGEST_WAIT = 60.0
"""Seconds after which a refused client is told to ask again, at most."""


class WhisperEngine(Engine[WhisperJob, Result]):
    """Runs jobs on a model.

    A job has a thread from its decoding to its end, and asks the engine for a worker before each window. The engine
    gives the threads and the free workers to the owners in turns, and to each owner's recordings in turns. So the model
    is never idle while there is work, and neither a long recording nor many keep it from the short one of another.
    Whoever submitted a job must cancel it in the end.
    """

    def __init__(
        self,
        model: Recogniser,
        options: WhisperOptions,
        *,
        decoder: AudioDecoder | None = None,
        workers: int = 1,
        max_queue: int = 256,
        name: str = "model",
    ) -> None:
        """`workers` windows are computed at the same time: as many as the model's own."""
        super().__init__(name, recordings=max_queue)
        self._model = model
        self._options = options
        self._decoder = decoder or AudioDecoder()
        self._workers = self._free_workers = workers
        self._windows = FairQueue[str, WhisperJob]()
        """By owner; what is over stays until its turn."""
        # Beside as many as one owner may have, one for another owner.
        self._threads = Turns[WhisperJob](options.max_running + 1)
        self._pool = ThreadPoolExecutor(options.max_running + 1, thread_name_prefix=f"ark-{name}")
        self._jobs: dict[ResultQueue[Result], WhisperJob] = {}
        self._begun = 0
        """Recordings inside that have a thread."""
        self._seconds = 0.0
        """What the last jobs took of a worker each; 0 before the first."""
        self._running = 0
        """Recordings whose thread computes, which after a cancellation takes to the end of a window."""
        self._audio_seconds = 0.0

    def submit(self, request: TranscriptionJob) -> WhisperJob:
        """Queue a job. Raises TooManyRequests and Unavailable."""
        job = WhisperJob(request)
        if not self._admission.enter(job, recordings=1):
            raise TooManyRequests(
                f"{len(self._admission)} recordings are waiting for this model.",
                retry_after=min(LONGEST_WAIT, max(1.0, self._seconds / self._workers)),
                code="queue_full",
            )
        self._submit(job, job)
        return job

    def status(self) -> TranscriptionStatus:
        waiting = max(0, len(self._admission) - self._begun)
        running, seconds = self._running, self._audio_seconds
        return TranscriptionStatus(running=running, waiting=waiting, audio_seconds=seconds, **self._counted())

    # On the thread of a recording.

    def _run_job(self, job: WhisperJob) -> None:
        self._call(self._started, job)
        started = time.perf_counter()
        try:
            duration = self._transcribe(job)
        except Cancelled:
            self._call(self._ended, job)
        except BaseException as error:  # noqa: BLE001 - the engine's thread tells them apart
            self._call(self._failed, job, error)
        else:
            self._call(self._finished, job, duration, time.perf_counter() - started)

    def _transcribe(self, job: WhisperJob) -> float:
        """Send the segments of a recording as they are computed. Returns its seconds."""
        request = job.request
        with scratch_file() as scratch:
            job.begin_reading()
            try:
                # Without a worker: it takes a hundredth of the time, and what holds it up is often the disk.
                decoding = self._decoder.decode(request.audio, max_seconds=request.max_seconds, check=job.check)
                with closing(decoding) as windows:
                    recording = listen(windows, self._model.feature_extractor, self._options, scratch, job.check)
            finally:
                job.end_reading()
            self._wait_for_turn(job)
            model = self._model.view(lambda: self._wait_for_turn(job))
            info, segments = transcribe(model, request, recording, self._options)
            self._call(self._send, job, info)
            for segment in segments:
                job.check()
                self._call(self._send, job, segment)
            return recording.duration

    def _wait_for_turn(self, job: WhisperJob) -> None:
        """Step back behind the others that wait, and go on when it is this recording's turn. Raises Cancelled."""
        job.turn.clear()
        job.check()
        self._call(self._queue_window, job)
        job.turn.wait()
        job.check()

    # On the engine's thread.

    @property
    def _busy(self) -> bool:
        return False

    def _begin(self, results: ResultQueue[Result], job: WhisperJob) -> None:
        self._jobs[results] = job
        self._threads.add(job.request.owner, job)

    def _step(self) -> None:
        while (begun := self._threads.next()) is not None:
            if begun in self._jobs:
                self._pool.submit(self._run_job, begun)
            else:
                self._threads.leave(begun.request.owner)
        while self._free_workers and (taken := self._windows.take(1)):
            job = taken[0][1]
            if job in self._jobs:
                self._free_workers -= 1
                job.computing = True
                job.turn.set()

    def _started(self, job: WhisperJob) -> None:
        self._running += 1
        job.begun = True
        self._begun += job in self._jobs

    def _queue_window(self, job: WhisperJob) -> None:
        self._free_worker(job)
        if job in self._jobs:
            self._windows.add(job.request.owner, [(job, 1)])

    def _free_worker(self, job: WhisperJob) -> None:
        self._free_workers += job.computing
        job.computing = False

    def _send(self, job: WhisperJob, result: Result) -> None:
        if job in self._jobs:
            if isinstance(result, TranscriptionSegment):
                job.transcribed = result.end
                self._counters["segments"] += 1
            self._results.add(job, result)

    def _ended(self, job: WhisperJob) -> None:
        """The thread of a recording has nothing more to do."""
        self._running -= 1
        self._threads.leave(job.request.owner)
        self._free_worker(job)

    def _finished(self, job: WhisperJob, duration: float, seconds: float) -> None:
        self._ended(job)
        if job in self._jobs:
            job.transcribed = duration
            self._seconds = seconds if not self._seconds else 0.8 * self._seconds + 0.2 * seconds
            self._admission.leave(job, "finished")
            self._results.add(job, Ended())
            self._abandon(job)

    def _failed(self, job: WhisperJob, error: BaseException) -> None:
        self._ended(job)
        if not isinstance(error, Exception):
            raise error
        known, cancelled = isinstance(error, APIError), job.over
        self._fail(job, error if isinstance(error, APIError) else request_failed())
        self._abandon(job)
        # The file of a job that was cancelled may have been closed meanwhile.
        if not known and not cancelled:
            log.error("request %s failed", job.request.request_id, exc_info=error)
            self._flush()
            # Whether it was that recording's fault, or the model can do no more at all.
            check_model(self._model)

    def _abandon(self, results: ResultQueue[Result]) -> None:
        job = self._jobs.pop(results, None)
        if job is not None:
            self._begun -= job.begun
            self._audio_seconds += job.transcribed
            job.over = True
            job.turn.set()

    def _clear(self) -> None:
        for results in list(self._jobs):
            self._abandon(results)

    def _free(self) -> None:
        self._decoder.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._model.unload()


def check_model(model: Recogniser) -> None:
    """Let a model hear a second of silence. Raises whatever it raises."""
    silence = numpy.zeros(SAMPLE_RATE, numpy.float32)
    segments, _ = model.transcribe(silence, beam_size=1, temperature=0.0, max_new_tokens=4, language=model.languages[0])
    for _ in segments:
        pass
