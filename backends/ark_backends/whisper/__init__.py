"""Transcription by Whisper models on CTranslate2, through faster-whisper.

This module is light: faster-whisper, CTranslate2 and PyAV are imported when a model is opened.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any

from ark.config import ConfigError, ModelConfig, Task
from ark.engines.backend import Capabilities, Detection
from ark.engines.model_files import ModelFiles
from ark.engines.parameters import TRANSCRIPTIONS, honoured
from ark.engines.transcription import (
    TranscriptionBackend,
    TranscriptionInfo,
    TranscriptionJob,
    TranscriptionSegment,
    TranscriptionStatus,
)
from ark.errors import BadRequest, shorten
from ark_backends.kit import pinned_models
from ark_backends.kit.engine_backend import EngineBackend
from ark_backends.kit.local_models import LocalModels
from ark_backends.whisper.job import Ended
from ark_backends.whisper.options import VadConfig, WhisperOptions

if TYPE_CHECKING:
    from ark_backends.whisper.engine import WhisperEngine

__all__ = ["VadConfig", "Whisper", "WhisperOptions"]

PARAMETERS = honoured(TRANSCRIPTIONS) - {"chunking_strategy", "include"}


class Whisper(LocalModels, EngineBackend):
    """`ark.engines.transcription.TranscriptionBackend` on faster-whisper's models."""

    capabilities = Capabilities(parameters=PARAMETERS)
    extras = "ark-server[transcription]"
    modules = ("faster_whisper", "ctranslate2")

    _engine: WhisperEngine

    def __init__(self, engine: WhisperEngine, languages: Sequence[str]) -> None:
        super().__init__(engine)
        self.languages = tuple(languages)

    @classmethod
    def default_for(cls, task: Task) -> ModelConfig | None:
        if task != "transcription":
            return None
        pinned = pinned_models.SPEECH
        # On the CPU: on a GPU CTranslate2 needs CUDA's own libraries, for a model that is quick without. In silence it
        # hears a "You", so that silence is left out.
        engine = {"device": "cpu", "vad": True}
        return ModelConfig(name=pinned.name, task="transcription", path=str(pinned.path), engine=engine)

    @classmethod
    def detect(cls, files: ModelFiles) -> Detection | None:
        return Detection(1, "for speech models") if files.task == "transcription" else None

    @classmethod
    def _load(cls, model: ModelConfig) -> tuple[Any, ...]:
        options = model.engine_options(WhisperOptions)
        try:
            from ark_backends.whisper.opening import open_model  # noqa: PLC0415 - faster-whisper is loaded only here
        except ImportError as error:
            raise ConfigError(f"the backend whisper needs {cls.extras}: {error}") from error
        return open_model(model, options)

    def status(self) -> TranscriptionStatus:
        return self._engine.status()

    async def transcribe(self, job: TranscriptionJob) -> AsyncGenerator[TranscriptionInfo | TranscriptionSegment, None]:
        if job.language is not None and job.language not in self.languages:
            raise BadRequest(f"The model does not know the language {shorten(job.language)!r}.", param="language")
        results = self._engine.submit(job)
        try:
            while not isinstance(result := await results.get(), Ended):
                yield result
        finally:
            self._engine.cancel(results)
            # After this the file is the caller's again.
            await results.leave()


if TYPE_CHECKING:
    _conforms: type[TranscriptionBackend] = Whisper
