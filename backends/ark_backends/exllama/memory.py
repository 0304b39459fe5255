"""Whether a model, with its draft model and its cache, fits the GPUs: told from the sizes of its files, before anything
is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ark.engines.model_files import kv_bytes, read_json
from ark_backends.exllama.options import PAGE, AnyOptions, ExLlamaOptions

ROOM = {"exllamav2": 1 << 30, "exllamav3": 3 << 29}
"""Bytes of each GPU that are left for what a step computes. The loader of exllamav3 keeps a part of that free."""

MB = 1 << 20


def unsupported_reason(package: str, options: AnyOptions, directory: Path, free: Sequence[int]) -> str | None:
    """Why the model in a directory cannot be opened where each GPU has so many bytes free; None where it can.

    Raises ConfigError for a config.json that cannot be read.
    """
    if (problem := misplaced(options, len(free))) is not None:
        return problem
    split = options.gpu_split
    taken = [size for index, size in enumerate(free) if split is None or (index < len(split) and split[index])]
    directories = [directory]
    if options.draft_model is not None and (draft := Path(options.draft_model).expanduser()).is_dir():
        # One that is still to be downloaded has no size yet.
        directories.append(draft)
    weights = sum(file.stat().st_size for one in directories for file in one.glob("*.safetensors"))
    if split is not None and sum(split) * (1 << 30) < weights:
        return f"engine.gpu_split: {sum(split):g} GB in all do not hold the {weights // MB} MB of weights"
    tokens = options.cache_tokens or PAGE
    cache = tokens * sum(token_bytes(read_json(one / "config.json") or {}, options) for one in directories)
    room = ROOM[package] * len(taken)
    short = weights + cache + room - sum(taken)
    if short <= 0:
        return None
    return (
        f"memory of the GPUs: {weights // MB} MB of weights, {cache // MB} MB for {tokens} tokens of KV in "
        f"{options.cache_type} and {room // MB} MB to compute in are {-(-short // MB)} MB more than the "
        f"{sum(taken) // MB} MB that are free: take smaller weights, or a smaller engine.cache_tokens or "
        "engine.cache_type"
    )


def misplaced(options: ExLlamaOptions, gpus: int) -> str | None:
    """What is wrong with the options for so many GPUs, with the field; None where nothing is."""
    split = options.gpu_split
    if split is not None and len(split) > gpus:
        return f"engine.gpu_split: it is for {len(split)} GPUs, and torch finds {gpus}"
    if split is not None and not any(split):
        return "engine.gpu_split: it leaves out every GPU"
    if options.tensor_parallel and gpus < 2:
        return "engine.tensor_parallel: there is one GPU only, so there is nothing to split over"
    return None


def token_bytes(config: Mapping[str, Any], options: AnyOptions) -> int:
    """Bytes of KV of one token in the cache's type, about; 0 where a config.json does not say."""
    plain = kv_bytes(config) or 0
    if options.cache_type == "fp16":
        return plain
    # 16 bits become so many, and a scale of 16 bits for every 32 numbers.
    return math.ceil(plain * (int(options.cache_type[1:]) + 0.5) / 16)
