"""The engine: threads that decode recordings and take turns in recognising their windows."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy

from ark.engines.transcription import TranscriptionJob, TranscriptionStatus
from ark.errors import APIError, TooManyRequests, Unavailable
from ark_backends.kit.results import engine_closed, engine_failed
from ark_backends.whisper.audio import AudioDecoder
from ark_backends.whisper.options import WhisperOptions
from ark_backends.whisper.protocol import SAMPLE_RATE
from ark_backends.whisper.recogniser import Recogniser, transcribe
from ark_backends.whisper.recording import Recording, listen, scratch_file
from ark_backends.whisper.turns import Turns
from ark_backends.whisper.work import Cancelled, Ended, FileDone, Message, Work

log = logging.getLogger("ark.whisper")

LONGEST_WAIT = 60.0
"""Seconds after which a refused client is told to ask again, at most."""

_FAILED = "The model's engine failed on this request."


@dataclass
class _Counters:
    """Guarded by the engine's lock, as all that threads share."""

    running: int = 0
    segments: int = 0
    audio_seconds: float = 0.0
    jobs_finished: int = 0
    jobs_cancelled: int = 0
    jobs_failed: int = 0


class Engine:
    """Runs jobs on a model. Its public methods may be called from any thread; `enter` from an event loop.

    A job has a thread from its decoding to its end, and computes when it is its turn: before each window it steps back
    behind the others that wait. So the threads of the model are never idle while there is work, and a long recording
    does not keep them from short ones. Whoever entered must leave.
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
        self._model = model
        self._options = options
        self._max_queue = max_queue
        self._workers = workers
        self._turns = Turns(workers)
        self._decoder = decoder or AudioDecoder()
        self._pool = ThreadPoolExecutor(options.max_running, thread_name_prefix=f"ark-{name}")
        self._lock = threading.Lock()
        self._inside: set[Work] = set()
        self._shut: Callable[[], APIError] | None = None
        """Makes the error of those who come now; each gets its own."""
        self._count = _Counters()
        self._seconds = 0.0
        """What the last jobs took of a worker each; 0 before the first."""

    def close(self) -> None:
        """Fail what is inside and wait for the threads to end. May be called twice."""
        self._end(engine_closed)
        self._decoder.close()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._model.unload()

    def enter(self, job: TranscriptionJob) -> Work:
        """Queue a job. Raises TooManyRequests and Unavailable."""
        work = Work(job)
        with self._lock:
            if self._shut is not None:
                raise self._shut()
            if len(self._inside) >= self._max_queue:
                message = f"{len(self._inside)} recordings are waiting for this model."
                raise TooManyRequests(message, retry_after=self._wait(), code="queue_full")
            self._inside.add(work)
            work.future = self._pool.submit(self._run, work)
        return work

    def leave(self, work: Work) -> bool:
        """Give the place back, and cancel the job if it is not over. False while its file may still be read: `FileDone`
        comes to the job when it no longer is."""
        with self._lock:
            if work in self._inside:
                self._count.jobs_cancelled += 1
                self._drop(work)
            assert work.future is not None
            return work.future.cancel() or work.future.done()

    def status(self) -> TranscriptionStatus:
        with self._lock:
            count = self._count
            return TranscriptionStatus(
                alive=self._shut is None,
                running=count.running,
                waiting=sum(not work.begun for work in self._inside),
                audio_seconds=count.audio_seconds,
                segments=count.segments,
                jobs_finished=count.jobs_finished,
                jobs_cancelled=count.jobs_cancelled,
                jobs_failed=count.jobs_failed,
            )

    def _wait(self) -> float:
        """Seconds until a place is free, as far as it is known."""
        return min(LONGEST_WAIT, max(1.0, self._seconds / self._workers))

    def _drop(self, work: Work) -> None:
        """Take a job out, with the lock held."""
        work.over = True
        self._inside.remove(work)
        self._count.audio_seconds += work.heard

    def _end(self, reason: Callable[[], APIError]) -> None:
        """Take no more jobs and fail those that are inside: nobody may wait for ever."""
        with self._lock:
            if self._shut is None:
                self._shut = reason
            left = list(self._inside)
            for work in left:
                self._drop(work)
            self._count.jobs_failed += len(left)
        for work in left:
            _post(work, reason())

    # On the threads of jobs.

    def _run(self, work: Work) -> None:
        with self._lock:
            self._count.running += 1
            work.begun = work.running = True
        try:
            self._transcribe(work)
        except Cancelled:
            pass
        except APIError as error:
            self._fail(work, error)
        except Exception:
            # The file of a job that was cancelled may have been closed meanwhile.
            if not work.over:
                log.exception("request %s failed", work.job.request_id)
                self._fail(work, Unavailable(_FAILED, code="engine_failed"))
                self._examine()
        except BaseException:
            log.exception("a thread of the engine died")
            self._end(engine_failed)
        finally:
            with self._lock:
                self._rest(work)
            _post(work, FileDone())

    def _transcribe(self, work: Work) -> None:
        started = time.perf_counter()
        work.check()
        with scratch_file() as scratch:
            # Outside the turns: it takes a hundredth of the time, and what holds it up is often the disk.
            decoding = self._decoder.decode(work.job.audio, max_seconds=work.job.max_seconds, check=work.check)
            with closing(decoding) as windows:
                recording = listen(windows, self._model.feature_extractor, self._options, scratch, work.check)
            _post(work, FileDone())
            self._recognise(work, recording)
        with self._lock:
            work.check()
            work.heard = recording.duration
            self._count.jobs_finished += 1
            seconds = time.perf_counter() - started
            self._seconds = seconds if not self._seconds else 0.8 * self._seconds + 0.2 * seconds
            self._rest(work)
            self._drop(work)
        _post(work, Ended())

    def _recognise(self, work: Work, recording: Recording) -> None:
        def step() -> None:
            work.check()
            self._turns.pass_on()
            work.check()

        self._turns.take()
        try:
            work.check()
            info, segments = transcribe(self._model.view(step), work.job, recording, self._options)
            _post(work, info)
            for segment in segments:
                with self._lock:
                    work.check()
                    work.heard = segment.end
                    self._count.segments += 1
                _post(work, segment)
        finally:
            self._turns.give()

    def _rest(self, work: Work) -> None:
        """Nothing more is computed for a job, which its own thread says, with the lock held."""
        if work.running:
            work.running = False
            self._count.running -= 1

    def _fail(self, work: Work, error: APIError) -> None:
        with self._lock:
            if work.over:
                return
            self._count.jobs_failed += 1
            self._rest(work)
            self._drop(work)
        _post(work, error)

    def _examine(self) -> None:
        """After a failure: whether it was that recording's, or the model can do no more at all."""
        self._turns.take()
        try:
            if self._shut is None:
                check_model(self._model)
        except Exception:
            log.exception("the model cannot transcribe any more")
            self._end(engine_failed)
        finally:
            self._turns.give()


def check_model(model: Recogniser) -> None:
    """Let a model hear a second of silence. Raises whatever it raises."""
    silence = numpy.zeros(SAMPLE_RATE, numpy.float32)
    segments, _ = model.transcribe(silence, beam_size=1, temperature=0.0, max_new_tokens=4, language=model.languages[0])
    for _ in segments:
        pass


def _post(work: Work, message: Message) -> None:
    try:
        work.post([(work, message)])
    except RuntimeError:
        # The loop was closed with the job still running: nobody waits for it.
        work.over = True
