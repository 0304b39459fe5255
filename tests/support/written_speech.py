"""A speech model for tests: its recordings have the words written in them.

A file is lines of ``start end text``, in seconds. ``slow`` waits until `gate` opens, ``break`` fails, and a file that
does not begin with ``SPEECH`` is not audio.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import anyio

from ark.backends import (
    Capabilities,
    TranscriptionInfo,
    TranscriptionJob,
    TranscriptionSegment,
    TranscriptionStatus,
    TranscriptionWord,
)
from ark.config import ModelConfig
from ark.errors import BadRequest, UnsupportedMediaType

SECRET = "the disk at /dev/sda is on fire"


class WrittenSpeech:
    """Reads what others would hear."""

    capabilities = Capabilities(parameters=frozenset({"language", "prompt", "temperature"}))

    def __init__(self, model: ModelConfig) -> None:
        self.languages = ("en",) if "english" in model.name else ("de", "en", "fr")
        self.gate = anyio.Event()
        self.jobs: list[TranscriptionJob] = []
        self.closed = 0

    @classmethod
    async def open(cls, model: ModelConfig) -> WrittenSpeech:
        return cls(model)

    async def close(self) -> None:
        return

    def status(self) -> TranscriptionStatus:
        return TranscriptionStatus(alive=True, running=len(self.jobs) - self.closed, jobs_finished=self.closed)

    async def transcribe(self, job: TranscriptionJob) -> AsyncGenerator[TranscriptionInfo | TranscriptionSegment, None]:
        self.jobs.append(job)
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
                yield _segment(number, float(start), float(end), text, words=job.words)
        finally:
            self.closed += 1


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
            TranscriptionWord(text=word, start=start + index * step, end=start + (index + 1) * step)
            for index, word in enumerate(spoken)
        ]
        if words
        else (),
    )
