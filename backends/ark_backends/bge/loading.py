"""Loading a model by FlagEmbedding's encoder-only classes. Importing this module takes FlagEmbedding's 7 to 12 s."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from FlagEmbedding import BGEM3FlagModel, FlagModel
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

from ark.config import ConfigError
from ark_backends.bge.card import HEADS
from ark_backends.bge.options import Pooling

POOLING = {"cls": "cls", "mean": "mean", "last": "last_token"}
"""FlagEmbedding's names."""


def load(path: Path, *, pooling: Pooling, normalize: bool, dtype: torch.dtype, heads: bool) -> Any:
    """FlagEmbedding's object around a model, on the CPU: a BGEM3FlagModel with `heads`, else a FlagModel.

    Raises ConfigError for a directory that it cannot load, and for weights that it would fill up with random ones.
    """
    options: dict[str, Any] = {
        "normalize_embeddings": normalize,
        "use_fp16": dtype is torch.float16,
        "use_bf16": dtype is torch.bfloat16,
        "pooling_method": POOLING[pooling],
        # With more than one it would start processes of its own.
        "devices": "cpu",
    }
    try:
        with _quiet():
            absent = _absent(path)
            if absent:
                raise ConfigError(f"the weights in {path} lack {len(absent)} parameters, such as {absent[0]}")
            if not heads:
                return FlagModel(str(path), **options)
            # Given, because FlagEmbedding takes the model's own size for it.
            state = torch.load(path / HEADS[1], map_location="cpu", weights_only=True)
            return BGEM3FlagModel(str(path), colbert_dim=state["weight"].shape[0], **options)
    except ConfigError:
        raise
    except Exception as error:  # whatever a broken file makes the libraries raise
        raise ConfigError(f"FlagEmbedding cannot load {path}: {error}") from error


def _absent(path: Path) -> list[str]:
    """Parameters that are not in the weight files. FlagEmbedding would have random ones in their place, silently."""
    # On this device no weights are read, only their names.
    _, report = AutoModel.from_pretrained(path, device_map="meta", output_loading_info=True, local_files_only=True)
    # The pooler is no part of an embedding, and often left away.
    return sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars, and of transformers' messages the errors only."""
    shown, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if shown:
            transformers_logging.enable_progress_bar()
