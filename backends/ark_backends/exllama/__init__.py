"""Chat on NVIDIA GPUs with ExLlamaV2 and its successor ExLlamaV3: quantized weights, paged KV.

One engine drives both: `v2` and `v3` are its two faces, and `v2_opening` and `v3_opening` load their models. This
module is light: torch and the generators are imported when a model is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import anyio.to_thread

from ark.config import ConfigError, ModelConfig
from ark.engines.backend import Detection
from ark.engines.chat import ChatBackend, SamplingParams
from ark.engines.model_files import ModelFiles
from ark_backends.exllama.memory import unsupported_reason
from ark_backends.exllama.needs import missing_requirements
from ark_backends.exllama.options import ExLlamaOptions, ExLlamaV2Options, ExLlamaV3Options
from ark_backends.kit.chat import EngineChat
from ark_backends.kit.local_models import LocalModels

if TYPE_CHECKING:
    from ark_backends.exllama.engine import Engine
    from ark_backends.kit.grammar import Grammars
    from ark_backends.kit.tokenizer import HFTokenizer

__all__ = ["ExLlamaV2", "ExLlamaV2Options", "ExLlamaV3", "ExLlamaV3Options"]


class _ExLlama(LocalModels, EngineChat):
    package: ClassVar[str]
    options: ClassVar[type[ExLlamaV2Options] | type[ExLlamaV3Options]]
    formats: ClassVar[Sequence[str]]
    """Methods of quantized weights that it is made for."""

    @classmethod
    async def open(cls, model: ModelConfig) -> Self:
        options = model.engine_options(cls.options)
        engine, tokenizer, grammars, sampling = await anyio.to_thread.run_sync(_load, cls, model, options)
        # Not in the worker: cancelled meanwhile, it would leave a running thread that nobody closes.
        engine.start()
        return cls(engine, tokenizer, grammars, sampling)

    @classmethod
    def detect(cls, files: ModelFiles) -> Detection | None:
        method = files.quantization
        return None if method is None or method not in cls.formats else Detection(2, f"for {method.upper()} weights")

    @classmethod
    def missing_requirements(cls) -> Sequence[str]:
        return missing_requirements(cls.package)

    @classmethod
    def unsupported_reason(cls, model: ModelConfig, files: ModelFiles) -> str | None:
        options = model.engine_options(cls.options)
        if files.directory is None or cls.missing_requirements():
            return None
        import torch  # noqa: PLC0415 - only where there is a GPU to ask

        free = [int(torch.cuda.mem_get_info(index)[0]) for index in range(torch.cuda.device_count())]
        return unsupported_reason(cls.package, options, files.directory, free)


class ExLlamaV2(_ExLlama):
    """`ark.engines.chat.ChatBackend` on exllamav2: EXL2 and plain safetensors weights."""

    package = "exllamav2"
    extras = "ark-server[exllamav2]"
    options = ExLlamaV2Options
    formats = ("exl2", "gptq")


class ExLlamaV3(_ExLlama):
    """`ark.engines.chat.ChatBackend` on exllamav3: EXL3 and plain safetensors weights."""

    package = "exllamav3"
    extras = "ark-server[exllamav3]"
    options = ExLlamaV3Options
    formats = ("exl3",)


if TYPE_CHECKING:
    Opened = tuple[Engine, HFTokenizer, Grammars, SamplingParams]
    _v2: type[ChatBackend] = ExLlamaV2
    _v3: type[ChatBackend] = ExLlamaV3


def _load(kind: type[_ExLlama], model: ModelConfig, options: ExLlamaOptions) -> Opened:
    """Everything that takes long, in a worker thread. Raises ConfigError."""
    missing = kind.missing_requirements()
    if missing:
        raise ConfigError(f"model {model.name!r}: {kind.package} cannot run here. Missing: {'; '.join(missing)}")
    try:
        from ark_backends.exllama.opening import open_model  # noqa: PLC0415 - torch is loaded only here
    except ImportError as error:
        raise ConfigError(f"the backend {kind.package} needs {kind.extras}: {error}") from error
    return open_model(kind.package, model, options)
