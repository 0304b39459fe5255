"""A speech model for tests, whose recordings contain their words as text.

A file has lines of ``start end text``, in seconds. ``slow`` waits until `gate` opens, ``break`` fails, and a file that
does not begin with ``SPEECH`` is not audio. With the engine's option ``opens = false`` the model loads forever.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio
import msgspec

from ark.config import ModelConfig
from ark.engines.backend import Capabilities
from ark.engines.transcription import (
    TranscriptionInfo,
    TranscriptionJob,
    TranscriptionSegment,
    TranscriptionStatus,
    Word,
)
from ark.errors import BadRequest, TooManyRequests, UnsupportedMediaType

SECRET = "the disk at /dev/sda is on fire"


class WrittenSpeech:
    """A transcription backend that reads the text instead of recognizing speech."""

    capabilities = Capabilities(
        parameters=frozenset(
            {"language", "prompt", "response_format", "stream", "temperature", "timestamp_granularities"}
        )
    )

    def __init__(self, model: ModelConfig) -> None:
        self.languages = ("en",) if "english" in model.name else ("de", "en", "fr")
        self.gate = anyio.Event()
        self.jobs: list[TranscriptionJob] = []
        self.closed = 0
        self._max_queue = model.max_queue
        self._counted = TranscriptionStatus(alive=True)

    @classmethod
    async def open(cls, model: ModelConfig) -> WrittenSpeech:
        if not model.engine.get("opens", True):
            await anyio.sleep_forever()
        return cls(model)

    async def close(self) -> None:
        return

    def status(self) -> TranscriptionStatus:
        return msgspec.structs.replace(self._counted, running=len(self.jobs) - self.closed)

    def _count(self, **more: float) -> None:
        counted = {name: getattr(self._counted, name) + by for name, by in more.items()}
        self._counted = msgspec.structs.replace(self._counted, **counted)

    async def transcribe(self, job: TranscriptionJob) -> AsyncGenerator[TranscriptionInfo | TranscriptionSegment, None]:
        if len(self.jobs) - self.closed >= self._max_queue:
            raise TooManyRequests("Others are waiting for this model.", retry_after=3, code="queue_full")
        self.jobs.append(job)
        ended = "jobs_cancelled"
        try:
            first, *lines = job.audio.read().decode("utf-8", "replace").splitlines() or [""]
            if not first.startswith("SPEECH"):
                raise UnsupportedMediaType("The file is not audio.", param="file")
            spoken = [line.split(" ", 2) for line in lines]
            duration = float(spoken[-1][1]) if spoken else 1.0
            if job.max_seconds is not None and duration > job.max_seconds:
                raise BadRequest("The recording is too long.", param="file")
            yield TranscriptionInfo(language=job.language or "de", duration=duration)
            for number, (start, end, text) in enumerate(spoken):
                if text == "slow":
                    await self.gate.wait()
                if text == "break":
                    raise RuntimeError(SECRET)
                self._count(segments=1)
                yield _segment(number, float(start), float(end), text, words=job.words)
            self._count(audio_seconds=duration)
            ended = "jobs_finished"
        except Exception:
            ended = "jobs_failed"
            raise
        finally:
            self.closed += 1
            self._count(**{ended: 1})


def recording(*lines: str) -> bytes:
    return "\n".join(["SPEECH", *lines]).encode()


def _segment(number: int, start: float, end: float, text: str, *, words: bool) -> TranscriptionSegment:
    spoken = text.split()
    step = (end - start) / max(1, len(spoken))
    return TranscriptionSegment(
        id=number,
        seek=0,
        start=start,
        end=end,
        text=f" {text}",
        tokens=list(range(len(spoken))),
        temperature=0.0,
        avg_logprob=-0.1,
        compression_ratio=1.0,
        no_speech_prob=0.0,
        words=[
            Word(word=word, start=start + index * step, end=start + (index + 1) * step)
            for index, word in enumerate(spoken)
        ]
        if words
        else (),
    )
