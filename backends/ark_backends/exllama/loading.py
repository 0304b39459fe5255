"""What loading a model takes in both generators: memory, lengths, and errors that name the option to change."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ark.config import ConfigError, ModelConfig
from ark_backends.exllama.options import PAGE
from ark_backends.exllama.requirements import ROOM

log = logging.getLogger("ark.exllama")


@contextmanager
def loading(package: str, model: ModelConfig, path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while a generator loads the model in `path` into a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # it refuses files by assertions and ValueErrors, and some of its loaders memory
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].strip(" #")
        if isinstance(error, torch.cuda.OutOfMemoryError) or "Insufficient VRAM" in reason:
            raise ConfigError(
                f"model {model.name!r}: the GPUs' memory is too small for it: {reason} "
                "Set engine.gpu_split, or a smaller engine.cache_tokens or engine.cache_type"
            ) from error
        raise ConfigError(f"model {model.name!r}: {package} cannot load {path}: {reason}") from error


def context_length(model: ModelConfig, longest: int, cache_tokens: int, draft_tokens: int) -> int:
    """Tokens of prompt and reply together; the cache has a page at least. Raises ConfigError."""
    # What is guessed for a last token is written as well.
    held = cache_tokens - draft_tokens
    context = min(model.context_length or longest, longest)
    if context < 2:
        raise ConfigError(f"model {model.name!r}, context_length: {context} token holds no conversation")
    if held < context:
        log.warning("context reduced from %d to %d tokens: more KV does not fit the cache", context, held)
        context = held
    return context


def check_vocabulary(model: ModelConfig, draft: int, tokens: int) -> None:
    """Refuse a draft model with another number of tokens than the model's. Raises ConfigError."""
    if draft != tokens:
        raise ConfigError(
            f"model {model.name!r}, engine.draft_model: it has {draft} tokens and the model {tokens}: they must be the "
            "same ones"
        )


def free_bytes(package: str) -> int:
    """Bytes that KV may take on all GPUs together."""
    torch.cuda.empty_cache()
    gpus = range(torch.cuda.device_count())
    return sum(int(torch.cuda.mem_get_info(index)[0]) - ROOM[package] for index in gpus)


def fitting_tokens(model: ModelConfig, free: int, token_bytes: int) -> int:
    """Tokens of KV, in whole pages, for so many free bytes. Raises ConfigError when there is not even one page."""
    tokens = int(free // token_bytes // PAGE * PAGE)
    if tokens < PAGE:
        raise ConfigError(
            f"model {model.name!r}: {max(free, 0) >> 20} MB of GPU memory are left for KV, and a page takes "
            f"{token_bytes * PAGE >> 20}: set engine.gpu_split, a smaller engine.cache_type or smaller weights"
        )
    return tokens
