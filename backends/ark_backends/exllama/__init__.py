"""Chat on NVIDIA GPUs with ExLlamaV2 and its successor ExLlamaV3: quantized weights, paged KV.

One engine drives both, through the generators of `v2` and `v3`. This module is light: torch and the generators are
imported when a model is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ark.config import ConfigError, ModelConfig
from ark.engines.backend import Detection
from ark.engines.chat import ChatBackend
from ark.engines.model_files import ModelFiles
from ark_backends.exllama.options import ExLlamaV2Options, ExLlamaV3Options
from ark_backends.exllama.requirements import missing_requirements, unsupported_reason
from ark_backends.kit.chat import ChatBackendBase
from ark_backends.kit.local_models import LocalModels

__all__ = ["ExLlamaV2", "ExLlamaV2Options", "ExLlamaV3", "ExLlamaV3Options"]


class _ExLlama(LocalModels, ChatBackendBase):
    package: ClassVar[str]
    options: ClassVar[type[ExLlamaV2Options] | type[ExLlamaV3Options]]
    formats: ClassVar[Sequence[str]]
    """Methods of quantized weights that it is made for."""

    @classmethod
    def _load(cls, model: ModelConfig) -> tuple[Any, ...]:
        options = model.engine_options(cls.options)
        missing = cls.missing_requirements()
        if missing:
            raise ConfigError(f"model {model.name!r}: {cls.package} cannot run here. Missing: {'; '.join(missing)}")
        try:
            from ark_backends.exllama.opening import open_model  # noqa: PLC0415 - torch is loaded only here
        except ImportError as error:
            raise ConfigError(f"the backend {cls.package} needs {cls.extras}: {error}") from error
        return open_model(cls.package, model, options)

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
    _v2: type[ChatBackend] = ExLlamaV2
    _v3: type[ChatBackend] = ExLlamaV3
