"""Chat with any causal language model of transformers, batched continuously over retained KV.

This module is light: torch and transformers are imported when a model is opened.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ark.config import ConfigError, ModelConfig, Task
from ark.engines.backend import Capabilities, Detection, ReportProgress
from ark.engines.chat import ChatBackend
from ark.engines.model_files import ModelFiles
from ark_backends.kit import pinned_models
from ark_backends.kit.chat import PARAMETERS, ChatBackendBase
from ark_backends.kit.local_models import LocalModels
from ark_backends.kit.threads import set_num_threads
from ark_backends.torch_chat.gguf import sources
from ark_backends.torch_chat.gguf.describe import describe
from ark_backends.torch_chat.options import TorchChatOptions

__all__ = ["PARAMETERS", "TorchChat", "TorchChatOptions"]


class TorchChat(LocalModels, ChatBackendBase):
    """`ark.engines.chat.ChatBackend` on torch and transformers."""

    extras = "ark-server[torch]"
    modules = ("torch", "transformers", "tokenizers", "llguidance")

    @property
    def capabilities(self) -> Capabilities:
        deterministic = self._engine.deterministic  # type: ignore[attr-defined]
        return msgspec.structs.replace(super().capabilities, deterministic=deterministic, prompt_logprobs=True)

    @classmethod
    def default_for(cls, task: Task) -> ModelConfig | None:
        if task != "chat":
            return None
        return ModelConfig(name=pinned_models.CHAT.name, path=str(pinned_models.CHAT.path))

    @classmethod
    def read_files(cls, source: str, revision: str | None) -> ModelFiles | None:
        return describe(source, revision)

    @classmethod
    def fetch(cls, model: ModelConfig, report: ReportProgress) -> Path:
        found = sources.download(model.source, model.revision) if cls._is_on_hub(model) else None
        return super().fetch(model, report) if found is None else found

    @classmethod
    def download_bytes(cls, model: ModelConfig) -> int:
        files = sources.hub_files(model.source, model.revision) if cls._is_on_hub(model) else {}
        return sum(files.values()) or super().download_bytes(model)

    @classmethod
    def _is_on_hub(cls, model: ModelConfig) -> bool:
        return pinned_models.find_pinned(model) is None and sources.is_on_hub(model.source)

    @classmethod
    def detect(cls, files: ModelFiles) -> Detection | None:
        if files.task != "chat":
            return None
        # transformers reads many methods, so it takes any that no other backend is made for.
        return Detection(1, f"for {files.quantization.upper() if files.quantization else 'plain'} weights")

    @classmethod
    def _load(cls, model: ModelConfig) -> tuple[Any, ...]:
        options = model.engine_options(TorchChatOptions)
        try:
            from ark_backends.torch_chat.opening import open_model  # noqa: PLC0415 - torch is loaded only here
        except ImportError as error:
            raise ConfigError(f"the backend torch_chat needs {cls.extras}: {error}") from error
        # What is measured at open is measured with the threads of the engine.
        set_num_threads(options.threads)
        return open_model(model, options)


if TYPE_CHECKING:
    _conforms: type[ChatBackend] = TorchChat
