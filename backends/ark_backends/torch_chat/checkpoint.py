"""The two forms in which a chat model comes: a directory of transformers, and a GGUF file."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any, Protocol

import torch

from ark.config import ModelConfig
from ark.engines.chat import SamplingParams
from ark_backends.kit import weights
from ark_backends.kit.gguf.file import GGUF
from ark_backends.kit.gguf.vocabulary import tokenizer
from ark_backends.kit.sampling_defaults import sampling_by_name
from ark_backends.kit.tokenizer import HFTokenizer, load_tokenizer
from ark_backends.kit.weights import recommended_sampling
from ark_backends.torch_chat import compiled, devices, runner
from ark_backends.torch_chat.gguf import sources
from ark_backends.torch_chat.gguf.model import build
from ark_backends.torch_chat.options import TorchChatOptions
from ark_backends.torch_chat.stored import load_stored
from ark_backends.torch_chat.structure import FAMILIES


def resolve(model: ModelConfig) -> Path:
    """The directory or file of a model, downloaded if need be. Raises ConfigError."""
    found = sources.find_file(model.source)
    if found is None and sources.is_on_hub(model.source):
        found = sources.download(model.source, model.revision)
    return weights.resolve(model.source, model.revision) if found is None else found


class Checkpoint(Protocol):
    """A model's files. Every method raises ConfigError where they are not right."""

    def tokenizer(self) -> HFTokenizer: ...

    def sampling(self) -> SamplingParams:
        """What its makers recommend."""
        ...

    def load(self, options: TorchChatOptions) -> tuple[Any, bool]:
        """The model of transformers, and whether it is to be quantized."""
        ...


def checkpoint(path: Path) -> Checkpoint:
    """The one at a path. Raises ConfigError."""
    return GGUFFile(path) if path.is_file() else Directory(path)


class Directory:
    """A directory of transformers."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def tokenizer(self) -> HFTokenizer:
        return load_tokenizer(self._path)

    def sampling(self) -> SamplingParams:
        return recommended_sampling(self._path)

    def load(self, options: TorchChatOptions) -> tuple[Any, bool]:
        return runner.load(self._path, device=options.device, dtype=options.dtype, quantization=options.quantization)


class GGUFFile:
    """A GGUF file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._gguf = GGUF(path)

    def tokenizer(self) -> HFTokenizer:
        return tokenizer(self._gguf)

    def sampling(self) -> SamplingParams:
        # The format has no place for it.
        return sampling_by_name(self._path.name, str(self._gguf.metadata.get("general.name", "")))

    def load(self, options: TorchChatOptions) -> tuple[Any, bool]:
        target = devices.device(options.device)
        size = 4 * sum(prod(tensor.shape) for tensor in self._gguf.tensors.values())
        quantized = devices.int8_wanted(options.quantization, target, size)
        own = None if options.dtype == "auto" else getattr(torch, options.dtype)
        model = build(self._gguf, own)
        # What the kernels compute they read from the file, and so does what becomes int8.
        if not quantized and (type(model).__name__ not in FAMILIES or target.type != "cpu" or compiled.unable()):
            load_stored(model, devices.dtype(options.dtype, target, model.config, size), target)
            model = model.to(target)
        return model, quantized
