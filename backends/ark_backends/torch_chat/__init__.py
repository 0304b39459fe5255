"""Chat with any causal language model of transformers, batched continuously over retained KV.

This module is light: torch and transformers are imported when a model is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread

from ark.config import ConfigError, ModelConfig, SamplingConfig, Task
from ark.engines.backend import Detection
from ark.engines.chat import ChatBackend, SamplingParams
from ark.engines.model_files import ModelFiles
from ark_backends.kit.chat import PARAMETERS, EngineChat
from ark_backends.kit.local_models import LocalModels
from ark_backends.kit.own_thread import apart
from ark_backends.torch_chat.options import TorchChatOptions
from ark_embedded import CHAT_MODEL, chat_model_path

if TYPE_CHECKING:
    from ark_backends.kit.grammar import Grammars
    from ark_backends.kit.tokenizer import HFTokenizer
    from ark_backends.torch_chat.engine import Engine

__all__ = ["PARAMETERS", "TorchChat", "TorchChatOptions"]


class TorchChat(LocalModels, EngineChat):
    """`ark.engines.chat.ChatBackend` on torch and transformers."""

    extras = "ark-server[torch]"
    modules = ("torch", "transformers", "tokenizers", "llguidance")

    @classmethod
    def default_for(cls, task: Task) -> ModelConfig | None:
        if task != "chat":
            return None
        # Greedy, because a model this small answers best so; in one fixed type, so that it answers the same everywhere.
        sampling, engine = SamplingConfig(temperature=0.0), {"dtype": "float32"}
        return ModelConfig(name=CHAT_MODEL, path=str(chat_model_path()), sampling=sampling, engine=engine)

    @classmethod
    def detect(cls, files: ModelFiles) -> Detection | None:
        if files.task != "chat":
            return None
        # transformers reads many methods, so it takes any that no other backend is made for.
        return Detection(1, f"for {files.quantization.upper() if files.quantization else 'plain'} weights")

    @classmethod
    async def open(cls, model: ModelConfig) -> TorchChat:
        options = model.engine_options(TorchChatOptions)
        engine, tokenizer, grammars, sampling = await anyio.to_thread.run_sync(apart, lambda: _load(model, options))
        # Not in the worker: cancelled meanwhile, it would leave a running thread that nobody closes.
        engine.start()
        return cls(engine, tokenizer, grammars, sampling)


if TYPE_CHECKING:
    Opened = tuple[Engine, HFTokenizer, Grammars, SamplingParams]
    _conforms: type[ChatBackend] = TorchChat


def _load(model: ModelConfig, options: TorchChatOptions) -> Opened:
    """Everything that takes long, in a worker thread. Raises ConfigError."""
    try:
        from ark_backends.kit.threads import among_ourselves, compute_with  # noqa: PLC0415 - torch is loaded only here
        from ark_backends.torch_chat.opening import open_model  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"the backend torch_chat needs {TorchChat.extras}: {error}") from error
    if options.threads is not None:
        # What is measured at open is measured with the threads of the engine.
        with among_ourselves():
            compute_with(options.threads)
    return open_model(model, options)
