"""Transcription by Whisper models on CTranslate2, through faster-whisper.

This module is light: faster-whisper, CTranslate2 and PyAV are imported when a model is opened.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from ark.config import ConfigError, ModelConfig, Task
from ark.engines.backend import Capabilities, Detection
from ark.engines.model_files import ModelFiles
from ark.engines.transcription import (
    TranscriptionBackend,
    TranscriptionInfo,
    TranscriptionJob,
    TranscriptionSegment,
    TranscriptionStatus,
)
from ark.errors import BadRequest, shorten
from ark_backends.kit.local_models import LocalModels
from ark_backends.whisper.options import VadConfig, WhisperOptions
from ark_embedded import SPEECH_MODEL, speech_model_path

if TYPE_CHECKING:
    from ark_backends.whisper.engine import Engine

__all__ = ["VadConfig", "Whisper", "WhisperOptions"]

PARAMETERS = frozenset(
    {"language", "prompt", "response_format", "stream", "temperature", "timestamp_granularities"}
)  # fmt: skip


class Whisper(LocalModels):
    """`ark.engines.transcription.TranscriptionBackend` on faster-whisper's models."""

    extras = "ark-server[transcription]"
    modules = ("faster_whisper", "ctranslate2")

    def __init__(self, engine: Engine, languages: Sequence[str]) -> None:
        self._engine = engine
        self._languages = tuple(languages)

    @classmethod
    def default_for(cls, task: Task) -> ModelConfig | None:
        path = speech_model_path() if task == "transcription" else None
        if path is None:
            return None
        # On the CPU: on a GPU CTranslate2 needs CUDA's own libraries, for a model that is quick without. Each window is
        # transcribed by itself, because a word that was heard twice goes on for ever behind the text before it.
        engine = {"device": "cpu", "compute_type": "int8", "condition_on_previous_text": False}
        return ModelConfig(name=SPEECH_MODEL, task="transcription", path=str(path), engine=engine)

    @classmethod
    def detect(cls, files: ModelFiles) -> Detection | None:
        return Detection(1, "for speech models") if files.task == "transcription" else None

    @classmethod
    async def open(cls, model: ModelConfig) -> Whisper:
        options = model.engine_options(WhisperOptions)
        return cls(*await anyio.to_thread.run_sync(_load, model, options))

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._engine.close)

    @property
    def languages(self) -> Sequence[str]:
        return self._languages

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(parameters=PARAMETERS)

    def status(self) -> TranscriptionStatus:
        return self._engine.status()

    async def transcribe(self, job: TranscriptionJob) -> AsyncGenerator[TranscriptionInfo | TranscriptionSegment, None]:
        if job.language is not None and job.language not in self._languages:
            raise BadRequest(f"The model does not know the language {shorten(job.language)!r}.", param="language")
        work = self._engine.enter(job)
        try:
            while (result := await work.get()) is not None:
                yield result
        finally:
            if not self._engine.leave(work):
                # The file is the caller's again behind this.
                with anyio.CancelScope(shield=True):
                    await work.file_done.wait()


if TYPE_CHECKING:
    _conforms: type[TranscriptionBackend] = Whisper


def _load(model: ModelConfig, options: WhisperOptions) -> tuple[Engine, tuple[str, ...]]:
    """Everything that takes long, in a worker thread. Raises ConfigError."""
    try:
        from ark_backends.whisper.opening import open_model  # noqa: PLC0415 - faster-whisper is loaded only here
    except ImportError as error:
        raise ConfigError(f"the backend whisper needs {Whisper.extras}: {error}") from error
    return open_model(model, options)
