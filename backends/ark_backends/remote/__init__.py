"""Models that run in engines elsewhere: vLLM, SGLang and llama.cpp's server, with ARK's sessions in front of them.

This module is light: httpx2 and the tokenizer's libraries are imported when a model is opened.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ark.config import ConfigError, ModelConfig
from ark.engines.backend import Backend, ReportProgress
from ark.engines.model_files import ModelFiles
from ark_backends.remote.options import RemoteOptions

if TYPE_CHECKING:
    from ark.engines.chat import GenerationJob, TokenBatch
    from ark.engines.embedding import Embedding, EmbeddingJob
    from ark.engines.transcription import TranscriptionInfo, TranscriptionJob, TranscriptionSegment

__all__ = ["Remote", "RemoteOptions"]

MODULES = ("httpx2", "jinja2", "llguidance", "tokenizers", "transformers")


class Remote:
    """The backend ``remote``. What `open` returns is the class of the model's task."""

    extras = "ark-server[remote]"

    @classmethod
    def missing_requirements(cls) -> Sequence[str]:
        absent = [module for module in MODULES if find_spec(module) is None]
        return [f"{', '.join(absent)}: pip install '{cls.extras}'"] if absent else []

    @classmethod
    def unsupported_reason(cls, model: ModelConfig, files: ModelFiles) -> str | None:
        model.engine_options(RemoteOptions)
        return None

    @classmethod
    def fetch(cls, model: ModelConfig, report: ReportProgress) -> Path:
        cls._check_installed()
        from ark_backends.remote.opening import find_tokenizer  # noqa: PLC0415 - needs the tokenizer's libraries

        # Only chat needs any file.
        return find_tokenizer(model) if model.task == "chat" else Path(model.source)

    @classmethod
    async def open(cls, model: ModelConfig) -> Backend:
        cls._check_installed()
        # They need httpx2.
        if model.task == "embedding":
            from ark_backends.remote.embedding import RemoteEmbedding  # noqa: PLC0415

            return await RemoteEmbedding.open(model)
        if model.task == "transcription":
            from ark_backends.remote.transcription import RemoteTranscription  # noqa: PLC0415

            return await RemoteTranscription.open(model)
        from ark_backends.remote.chat import RemoteChat  # noqa: PLC0415

        return await RemoteChat.open(model)

    @classmethod
    def _check_installed(cls) -> None:
        if missing := cls.missing_requirements():
            raise ConfigError(f"the backend remote needs {'; '.join(missing)}")

    # By these methods the server knows which tasks a backend does; what `open` returns has the one of its task.

    def generate(self, job: GenerationJob) -> AsyncGenerator[TokenBatch, None]:
        raise NotImplementedError

    async def embed(self, job: EmbeddingJob) -> Sequence[Embedding]:
        raise NotImplementedError

    def transcribe(self, job: TranscriptionJob) -> AsyncGenerator[TranscriptionInfo | TranscriptionSegment, None]:
        raise NotImplementedError
