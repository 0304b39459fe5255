"""What a model is, seen from its files: its task, and the backend that runs it.

Reads JSON only, so that it needs no engine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from ark.config import ConfigError

Task = Literal["chat", "embedding", "transcription"]

QUANTIZED = {"exl2": "exllamav2", "gptq": "exllamav2", "exl3": "exllamav3"}
"""Method of quantized weights to the only backend that reads them."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's directory says of itself."""

    task: Task
    architecture: str
    """The class of transformers, or the kind of file where there is none."""
    quantization: str | None
    """The method of quantized weights, None for plain ones."""
    weights_bytes: int
    """Size of the weight files."""
    context_length: int | None
    """Positions that the model knows, where it says so."""


WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")


def identify(directory: Path) -> Identity:
    """What the model in a directory is. Raises ConfigError for a directory that holds none."""
    config = read_json(directory / "config.json")
    if config is None:
        raise ConfigError(f"{directory} is not the directory of a model: it has no config.json")
    architectures = config.get("architectures")
    architecture = architectures[0] if isinstance(architectures, list) and architectures else ""
    return Identity(
        task=_task(directory, config, str(architecture)),
        architecture=str(architecture) or "CTranslate2",
        quantization=quantization(config),
        weights_bytes=_largest(directory),
        context_length=_context(config),
    )


def quantization(config: Mapping[str, Any]) -> str | None:
    """The method of quantized weights that a config.json names, None for plain ones."""
    table = config.get("quantization_config")
    method = table.get("quant_method") if isinstance(table, Mapping) else None
    return method if isinstance(method, str) else None


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file, None where there is no such file. Raises ConfigError for one that is not JSON."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} cannot be read as JSON")
    return value


def kv_bytes(config: Mapping[str, Any]) -> int | None:
    """Bytes of KV of one token in 16 bits: 2 (K and V) x layers x KV heads x head size x 2; None where a config.json
    of transformers does not say."""
    inner = config.get("text_config")
    text = inner if isinstance(inner, Mapping) else config
    heads = text.get("num_attention_heads")
    layers, size = text.get("num_hidden_layers"), text.get("head_dim")
    if size is None and heads:
        size = text.get("hidden_size", 0) // heads
    groups = text.get("num_key_value_heads") or heads
    if not (isinstance(layers, int) and isinstance(groups, int) and isinstance(size, int)):
        return None
    return 2 * layers * groups * size * 2


def _task(directory: Path, config: Mapping[str, Any], architecture: str) -> Task:
    # CTranslate2's own config.json names no architecture; these two are Whisper's alone.
    if architecture.startswith("Whisper") or "suppress_ids_begin" in config or "alignment_heads" in config:
        return "transcription"
    # sentence-transformers' files come first: they pool causal models too.
    if (directory / "1_Pooling").is_dir() or (directory / "modules.json").is_file():
        return "embedding"
    if architecture.endswith(("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")):
        return "chat"
    if architecture.endswith(("Model", "ForMaskedLM")):
        return "embedding"
    what = f"a {architecture}" if architecture else "without an architecture in its config.json"
    raise ConfigError(f"the model in {directory} is {what}: ARK does not know its task")


def _largest(directory: Path) -> int:
    """The size of one set of weights: a directory may hold the same ones in two formats."""
    return max(sum(file.stat().st_size for file in directory.glob(pattern)) for pattern in WEIGHTS)


def _context(config: Mapping[str, Any]) -> int | None:
    text = config.get("text_config")
    inner = text if isinstance(text, Mapping) else config
    value = inner.get("max_position_embeddings")
    return value if isinstance(value, int) and value > 0 else None
