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
from ark_backends.torch_chat import compiled, devices
from ark_backends.torch_chat.gguf import sources
from ark_backends.torch_chat.gguf.decoder import Decoder
from ark_backends.torch_chat.gguf.opening import compiled_runner
from ark_backends.torch_chat.options import TorchChatOptions
from ark_backends.torch_chat.quantize import Report
from ark_backends.torch_chat.runner import Runner
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

    def compiled(self, options: TorchChatOptions, sample: list[int]) -> tuple[Runner, Report | None] | None:
        """What computes it by compiled kernels, checked, and what quantizing cost if that was wanted; None where this
        takes the model of transformers. `sample` are tokens of a text. Raises NotUsed."""
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

    def compiled(self, options: TorchChatOptions, sample: list[int]) -> None:
        return None

    def load(self, options: TorchChatOptions) -> tuple[Any, bool]:
        from ark_backends.torch_chat.pretrained import load  # noqa: PLC0415 - it imports transformers

        return load(self._path, device=options.device, dtype=options.dtype, quantization=options.quantization)


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

    def compiled(self, options: TorchChatOptions, sample: list[int]) -> tuple[Runner, Report | None] | None:
        target, quantized = self._target(options)
        own = _own_type(options)
        if target.type != "cpu" or compiled.unable() or own not in (None, *compiled.TYPES):
            return None
        try:
            decoder = Decoder(self._gguf, own)
        except LookupError:
            return None
        if decoder.spec.head_dim % compiled.LANES:
            return None
        return compiled_runner(self._path, decoder, sample, quantized=quantized, dtype=own, check=options.self_check)

    def load(self, options: TorchChatOptions) -> tuple[Any, bool]:
        from ark_backends.torch_chat.gguf.model import build  # noqa: PLC0415 - it imports transformers

        target, quantized = self._target(options)
        model = build(self._gguf, _own_type(options))
        # What the kernels compute they read from the file, and so does what becomes int8.
        if not quantized and (type(model).__name__ not in FAMILIES or target.type != "cpu" or compiled.unable()):
            load_stored(model, devices.dtype(options.dtype, target, model.config, self._size), target)
            model = model.to(target)
        return model, quantized

    @property
    def _size(self) -> int:
        """Bytes of the weights in float32."""
        return 4 * sum(prod(tensor.shape) for tensor in self._gguf.tensors.values())

    def _target(self, options: TorchChatOptions) -> tuple[torch.device, bool]:
        """The device, and whether the model is to be quantized."""
        target = devices.device(options.device)
        return target, devices.int8_wanted(options.quantization, target, self._size)


def _own_type(options: TorchChatOptions) -> torch.dtype | None:
    """What the numbers of a file are rounded to; None where they stay what they are."""
    return None if options.dtype == "auto" else getattr(torch, options.dtype)
