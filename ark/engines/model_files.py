"""What a model's files say about it. Only JSON is read, so no engine is needed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ark.config import ConfigError, Task

CONFIG = "config.json"

WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth")


class ModelFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a model before it is opened; of one whose files cannot be seen, only its task."""

    task: Task
    directory: Path | None = None
    """Or the file, of a model that is one."""
    config: Mapping[str, Any] = {}
    """Its config.json, or the like that a backend makes of other files."""
    weights_bytes: int = 0
    """Size of its weights, on disk or still to be downloaded."""
    facts: tuple[str, ...] = ()
    """What 'ark check' says of them besides."""

    @property
    def architecture(self) -> str:
        """The class of transformers, or the kind of file where there is none."""
        return _architecture(self.config) or "CTranslate2"

    @property
    def quantization(self) -> str | None:
        """The method of quantized weights, None for plain ones."""
        return quantization(self.config)

    @property
    def context_length(self) -> int | None:
        """Positions that the model knows, where it says so."""
        value = _text_config(self.config).get("max_position_embeddings")
        return value if isinstance(value, int) and value > 0 else None


def find_local(source: str) -> Path | None:
    """The directory or file that a model's source names. None where there is none: it may be a name on the hub, or
    nothing that could be a path."""
    path = os.path.expanduser(source)
    return Path(path) if os.path.exists(path) else None


def read_model_files(directory: Path) -> ModelFiles:
    """What the files in a directory say. Raises ConfigError for a directory without a model whose task is known."""
    config = read_json(directory / CONFIG)
    if config is None:
        raise ConfigError(f"{directory} is not the directory of a model: it has no config.json")
    return ModelFiles(
        task=_task(directory, config), directory=directory, config=config, weights_bytes=_weights_bytes(directory)
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
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} cannot be read as JSON")
    return value


def kv_bytes(config: Mapping[str, Any]) -> int | None:
    """Bytes of KV of one token in 16 bits: 2 (K and V) x layers x KV heads x head size x 2; None where a config.json
    of transformers does not say."""
    text = _text_config(config)
    heads = text.get("num_attention_heads")
    layers, size = text.get("num_hidden_layers"), text.get("head_dim")
    if size is None and heads:
        size = text.get("hidden_size", 0) // heads
    groups = text.get("num_key_value_heads") or heads
    if not (isinstance(layers, int) and isinstance(groups, int) and isinstance(size, int)):
        return None
    return 2 * layers * groups * size * 2


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part that describes the language model: of a multimodal model an inner table."""
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def _architecture(config: Mapping[str, Any]) -> str:
    found = config.get("architectures")
    return str(found[0]) if isinstance(found, list) and found else ""


def _task(directory: Path, config: Mapping[str, Any]) -> Task:
    architecture = _architecture(config)
    # CTranslate2's own config.json names no architecture; these two keys are Whisper's alone.
    if architecture.startswith("Whisper") or "suppress_ids_begin" in config or "alignment_heads" in config:
        return "transcription"
    if architecture.endswith("ForSequenceClassification") and _labels(config) == 1:
        return "rerank"
    # sentence-transformers' files come first: they pool causal models too.
    if (directory / "1_Pooling").is_dir() or (directory / "modules.json").is_file():
        return "embedding"
    if architecture.endswith(("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")):
        return "chat"
    if architecture.endswith(("Model", "ForMaskedLM")):
        return "embedding"
    what = f"a {architecture}" if architecture else "without an architecture in its config.json"
    raise ConfigError(f"the model in {directory} is {what}: ARK does not know its task")


def _labels(config: Mapping[str, Any]) -> int:
    """How many numbers a classifier gives: a reranker gives one. transformers writes `id2label`."""
    labels = config.get("id2label")
    return len(labels) if isinstance(labels, Mapping) else config.get("num_labels", 2)


def _weights_bytes(directory: Path) -> int:
    """The size of one set of weights: a directory may hold the same ones in two formats."""
    return max(sum(file.stat().st_size for file in directory.glob(pattern)) for pattern in WEIGHTS)
