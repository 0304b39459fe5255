"""The tensors of a GGUF by the names that transformers has for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ark.config import ConfigError
from ark_backends.kit.gguf.file import GGUF, StoredTensor
from ark_backends.torch_chat.gguf.architecture import ARCHITECTURES, OUTER
from ark_backends.torch_chat.gguf.weights import TensorWeight
from ark_backends.torch_chat.stored import StoredLinear

FACTORS = ("rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight")
"""Tensors that are no module's."""

_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")


class Parts:
    """Takes tensors out of a file. Every method raises ConfigError for one that is not there or has another shape."""

    def __init__(self, gguf: GGUF, config: Mapping[str, Any], dtype: torch.dtype | None) -> None:
        """`config` is the model's configuration, `dtype` what its numbers are rounded to, if they are."""
        self._gguf = gguf
        self._config = config
        self._dtype = dtype
        self._architecture = ARCHITECTURES[gguf.metadata["general.architecture"]]
        self._names = {name: stored for stored, name in self._architecture.layer.items()}
        self._outer = {name: stored for stored, name in OUTER.items()}
        self._used = set(FACTORS)

    def has(self, name: str) -> bool:
        """Whether there is a parameter of that name."""
        module, _, parameter = name.rpartition(".")
        return f"{self._stored(module)}.{parameter}" in self._gguf.tensors

    def weight(self, name: str, shape: tuple[int, int]) -> TensorWeight:
        """Of a linear layer or an embedding."""
        if name == "lm_head" and self._config["tie_word_embeddings"]:
            name = "model.embed_tokens"
        return TensorWeight(self._tensor(f"{self._stored(name)}.weight", shape), self._order(name), self._dtype)

    def linear(self, name: str, shape: tuple[int, int], *, bias: bool) -> StoredLinear:
        added = None
        if bias:
            added = self._numbers(f"{self._stored(name)}.bias", shape[0])
            order = self._order(name)
            added = added if order is None else added[torch.from_numpy(order)]
        return StoredLinear(self.weight(name, shape), added)

    def vector(self, name: str, parameter: str, size: int) -> torch.Tensor:
        """Of a normalisation."""
        found = self._numbers(f"{self._stored(name)}.{parameter}", size)
        # Only gains are stored with something added.
        return found - self._architecture.gain if parameter == "weight" else found

    def factors(self, size: int) -> torch.Tensor | None:
        """What the frequencies of rotary positions are divided by."""
        return self._numbers(FACTORS[0], size) if FACTORS[0] in self._gguf.tensors else None

    def check_all_used(self) -> None:
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

    def _numbers(self, name: str, size: int) -> torch.Tensor:
        tensor = self._tensor(name, (size,))
        row = StoredTensor(tensor.name, tensor.kind, (1, size), tensor.data)
        return TensorWeight(row).rows(0, 1)[0]

    def _order(self, name: str) -> Any:
        """Of the stored rows of a query or key: neighbours come from both halves of a head."""
        if not (self._architecture.rotated_in_pairs and name.endswith(("q_proj", "k_proj"))):
            return None
        config = self._config
        heads = config["num_attention_heads" if name.endswith("q_proj") else "num_key_value_heads"]
        numbers = np.arange(heads * config["head_dim"]).reshape(heads, config["head_dim"] // 2, 2)
        return numbers.swapaxes(1, 2).reshape(-1)
