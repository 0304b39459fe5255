"""The model of transformers for a GGUF, with layers that read the file."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ark.config import ConfigError
from ark_backends.kit.gguf.file import GGUF
from ark_backends.torch_chat.gguf.architecture import configuration
from ark_backends.torch_chat.gguf.parts import Parts
from ark_backends.torch_chat.stored import StoredEmbedding


def build(gguf: GGUF, dtype: torch.dtype | None = None) -> Any:
    """The model, of which only small things are in memory. `dtype` is what the numbers are rounded to, if they are.
    Raises ConfigError."""
    values = configuration(gguf)
    parts = Parts(gguf, dict(values), dtype)
    del values["quantization_config"]
    try:
        config = AutoConfig.for_model(values.pop("model_type"), **values)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # transformers has many ways to refuse numbers that do not fit together
        raise ConfigError(f"{gguf.path}: its numbers do not fit together: {error}") from error
    _fill(model, parts)
    return model.eval()


def _fill(model: Any, parts: Parts) -> None:
    """Put what a file has into the places of a model without weights."""
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear):
            shape = (module.out_features, module.in_features)
            model.set_submodule(name, parts.linear(name, shape, bias=module.bias is not None))
        elif isinstance(module, torch.nn.Embedding):
            weight = parts.weight(name, (module.num_embeddings, module.embedding_dim))
            model.set_submodule(name, StoredEmbedding(weight, module))
        elif "inv_freq" in dict(module.named_buffers(recurse=False)) or hasattr(module, "rope_type"):
            model.set_submodule(name, _rotary(model.config, module, parts))
        else:
            for parameter, value in list(module.named_parameters(recurse=False)):
                (size,) = value.shape
                vector = parts.vector(name, parameter, size)
                setattr(module, parameter, torch.nn.Parameter(vector, requires_grad=False))
    if model.config.tie_word_embeddings:
        model.lm_head.stored = model.get_input_embeddings().stored
    parts.check_all_used()


def _rotary(config: Any, module: Any, parts: Parts) -> Any:
    """Its frequencies are computed again: the module has been made without numbers."""
    made = type(module)(config)
    factors = None if not hasattr(made, "inv_freq") else parts.factors(len(made.inv_freq))
    if factors is not None:
        made.inv_freq = made.inv_freq / factors
        made.original_inv_freq = made.inv_freq.clone()
    return made
