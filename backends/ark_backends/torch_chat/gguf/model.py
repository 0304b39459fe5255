"""The model of transformers for a GGUF, with layers that read the file."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ark.config import ConfigError
from ark_backends.kit.gguf.file import GGUF, StoredTensor
from ark_backends.torch_chat.gguf.architecture import ARCHITECTURES, OUTER, configuration
from ark_backends.torch_chat.gguf.weights import TensorWeight
from ark_backends.torch_chat.stored import StoredEmbedding, StoredLinear

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")

FACTORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")
"""Tensors that are no module's."""


def build(gguf: GGUF, dtype: torch.dtype | None = None) -> Any:
    """The model, of which only small things are in memory. `dtype` is what the numbers are rounded to, if they are.
    Raises ConfigError."""
    values = configuration(gguf)
    del values["quantization_config"]
    try:
        config = AutoConfig.for_model(values.pop("model_type"), **values)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # transformers has many ways to refuse numbers that do not fit together
        raise ConfigError(f"{gguf.path}: its numbers do not fit together: {error}") from error
    _Filler(gguf, model, dtype).fill()
    return model.eval()


class _Filler:
    """Puts what a file has into the places of a model without weights."""

    def __init__(self, gguf: GGUF, model: Any, dtype: torch.dtype | None) -> None:
        self._gguf = gguf
        self._dtype = dtype
        self._model = model
        self._architecture = ARCHITECTURES[gguf.metadata["general.architecture"]]
        self._names = {name: stored for stored, name in self._architecture.layer.items()}
        self._outer = {name: stored for stored, name in OUTER.items()}
        self._used = set(FACTORS)

    def fill(self) -> None:
        for name, module in list(self._model.named_modules()):
            if isinstance(module, torch.nn.Linear):
                self._model.set_submodule(name, self._linear(name, module))
            elif isinstance(module, torch.nn.Embedding):
                weight = self._weight(name, (module.num_embeddings, module.embedding_dim))
                self._model.set_submodule(name, StoredEmbedding(weight, module))
            elif "inv_freq" in dict(module.named_buffers(recurse=False)) or hasattr(module, "rope_type"):
                self._model.set_submodule(name, self._rotary(module))
            else:
                for parameter, value in list(module.named_parameters(recurse=False)):
                    vector = self._vector(f"{self._stored(name)}.{parameter}", tuple(value.shape))
                    # Only gains are stored with something added.
                    vector = vector - self._architecture.gain if parameter == "weight" else vector
                    setattr(module, parameter, torch.nn.Parameter(vector, requires_grad=False))
        if self._model.config.tie_word_embeddings:
            self._model.lm_head.stored = self._model.get_input_embeddings().stored
        left = sorted(self._gguf.tensors.keys() - self._used)
        if left:
            raise ConfigError(
                f"{self._gguf.path}: it has {len(left)} tensors that ARK does not know in this architecture, "
                f"such as {left[0]}"
            )

    def _stored(self, name: str) -> str:
        """llama.cpp's name of a module."""
        match = _LAYER.fullmatch(name)
        if match is None:
            return self._outer.get(name, name)
        return f"blk.{match[1]}.{self._names.get(match[2], match[2])}"

    def _tensor(self, name: str, shape: tuple[int, ...]) -> StoredTensor:
        tensor = self._gguf.tensors.get(name)
        if tensor is None:
            raise ConfigError(f"{self._gguf.path}: it has no tensor {name}")
        if tensor.shape != shape:
            raise ConfigError(f"{self._gguf.path}: the tensor {name} has the shape {tensor.shape}, and not {shape}")
        self._used.add(name)
        return tensor

    def _vector(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        tensor = self._tensor(name, shape)
        (size,) = shape
        row = StoredTensor(tensor.name, tensor.kind, (1, size), tensor.data)
        return TensorWeight(row).rows(0, 1)[0]

    def _weight(self, name: str, shape: tuple[int, int]) -> TensorWeight:
        if name == "lm_head" and self._model.config.tie_word_embeddings:
            name = "model.embed_tokens"
        return TensorWeight(self._tensor(f"{self._stored(name)}.weight", shape), self._order(name), self._dtype)

    def _linear(self, name: str, module: torch.nn.Linear) -> StoredLinear:
        bias = None
        if module.bias is not None:
            bias = self._vector(f"{self._stored(name)}.bias", (module.out_features,))
            order = self._order(name)
            bias = bias if order is None else bias[torch.from_numpy(order)]
        return StoredLinear(self._weight(name, (module.out_features, module.in_features)), bias)

    def _order(self, name: str) -> Any:
        """Of the stored rows of a query or key: neighbours come from both halves of a head."""
        if not (self._architecture.rotated_in_pairs and name.endswith(("q_proj", "k_proj"))):
            return None
        config = self._model.config
        heads = config.num_attention_heads if name.endswith("q_proj") else config.num_key_value_heads
        numbers = np.arange(heads * config.head_dim).reshape(heads, config.head_dim // 2, 2)
        return numbers.swapaxes(1, 2).reshape(-1)

    def _rotary(self, module: Any) -> Any:
        """Its frequencies are computed again: the module has been made without numbers."""
        made = type(module)(self._model.config)
        factors = self._gguf.tensors.get("rope_freqs.weight")
        if factors is not None:
            divided = self._vector("rope_freqs.weight", tuple(made.inv_freq.shape))
            made.inv_freq = made.inv_freq / divided
            made.original_inv_freq = made.inv_freq.clone()
        return made
