"""What a machine lacks for ExLlama's generators and for one model, before anything of them is imported or loaded.

Without a GPU the import of a generator fails after seconds, with an error about its compiler, and leaves half of itself
behind. This module is light.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from ark.engines.model_files import kv_bytes, read_json
from ark_backends.exllama.options import PAGE, AnyOptions, ExLlamaOptions

TORCH = "https://pytorch.org/get-started/locally"

ROOM = {"exllamav2": 1 << 30, "exllamav3": 3 << 29}
"""Bytes of each GPU that a step computes in. The loader of exllamav3 keeps a part of that free."""

MB = 1 << 20


def missing_requirements(package: str) -> Sequence[str]:
    """Each thing that is missing, with what to do about it. Imports torch."""
    missing = []
    if not _found(package):
        missing.append(f"{package}: pip install 'ark-server[{package}]'")
    if not _found("torch"):
        return [*missing, f"torch with CUDA: {TORCH}"]
    import torch  # noqa: PLC0415

    if torch.version.cuda is None:
        missing.append(f"torch with CUDA (torch {torch.__version__} was built without): {TORCH}")
    elif not torch.cuda.is_available():
        missing.append("an NVIDIA GPU: torch finds none. See nvidia-smi and CUDA_VISIBLE_DEVICES")
    elif package == "exllamav3":
        missing += [
            f"a GPU of compute capability 8.0 or newer: {torch.cuda.get_device_name(index)} is older"
            for index in range(torch.cuda.device_count())
            if torch.cuda.get_device_capability(index) < (8, 0)
        ]
    if package == "exllamav3" and not _found("triton"):
        missing.append("triton, which a torch with CUDA brings")
    if not _found(f"{package}_ext") and (tools := _missing_tools()):
        missing.append(f"{tools}, to compile {package}'s kernels, or a wheel of {package} that has them compiled")
    return missing


def unsupported_reason(package: str, options: AnyOptions, directory: Path, free: Sequence[int]) -> str | None:
    """Why the model in a directory does not fit GPUs with so many free bytes; None where it does.

    Raises ConfigError for a config.json that cannot be read.
    """
    if (problem := misplaced(options, len(free))) is not None:
        return problem
    split = options.gpu_split
    taken = [size for index, size in enumerate(free) if split is None or (index < len(split) and split[index])]
    directories = [directory]
    # A draft model that is still to be downloaded has no size yet.
    if options.draft_model is not None and (draft := Path(options.draft_model).expanduser()).is_dir():
        directories.append(draft)
    weights = weights_bytes(directories)
    if split is not None and sum(split) * (1 << 30) < weights:
        return f"engine.gpu_split: {sum(split):g} GB in all do not hold the {weights // MB} MB of weights"
    tokens = options.cache_tokens or PAGE
    cache = tokens * sum(_token_bytes(one, options) for one in directories)
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


def weights_bytes(directories: Iterable[str | Path]) -> int:
    return sum(file.stat().st_size for one in directories for file in Path(one).glob("*.safetensors"))


def _token_bytes(directory: Path, options: AnyOptions) -> int:
    """About the bytes of KV of one token in the cache's type; 0 where the config.json does not say."""
    plain = kv_bytes(read_json(directory / "config.json") or {}) or 0
    if options.cache_type == "fp16":
        return plain
    # 16 bits become so many, and a scale of 16 bits for every 32 numbers.
    return math.ceil(plain * (int(options.cache_type[1:]) + 0.5) / 16)


def _missing_tools() -> str:
    """The missing ones of those that compile a generator's kernels when it is first imported."""
    nvcc = os.path.join(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin", "nvcc")
    tools = {
        "nvcc (the CUDA toolkit; CUDA_HOME says where)": shutil.which("nvcc") or os.path.exists(nvcc),
        "g++": shutil.which("g++") or shutil.which("c++"),
        "ninja": shutil.which("ninja") or _found("ninja"),
    }
    return " and ".join(tool for tool, there in tools.items() if not there)


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        # Half imported, or a stand-in.
        return True
