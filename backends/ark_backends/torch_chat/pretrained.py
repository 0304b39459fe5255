"""Models in directories, loaded by transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from ark.config import ConfigError
from ark_backends.torch_chat import compiled, devices
from ark_backends.torch_chat.structure import FAMILIES


def load(path: Path, *, device: str, dtype: str, quantization: str = "none") -> tuple[Any, bool]:
    """The model in a directory, on its device, and whether it is to be quantized.

    Raises ConfigError when it cannot be loaded whole.
    """
    target = devices.device(device)
    size = devices.checkpoint_bytes(path)
    try:
        config = AutoConfig.from_pretrained(path, local_files_only=True)
    except Exception as error:  # as below
        raise _unloadable(path, error) from error
    quantized = devices.int8_wanted(quantization, target, devices.float32_bytes(config, size))
    exact = bool(FAMILIES & set(getattr(config, "architectures", None) or ())) and compiled.unable() is None
    kind = devices.dtype(dtype, target, config, size, exact=exact)
    try:
        with _without_bar():
            model, report = AutoModelForCausalLM.from_pretrained(
                path,
                config=config,
                dtype=kind,
                local_files_only=True,
                output_loading_info=True,
                # Refused below, by their names; transformers itself would only point at its log.
                ignore_mismatched_sizes=True,
            )
        model = model.to(target)
    except Exception as error:  # files can be broken in any way, and each library has its own errors for it
        raise _unloadable(path, error) from error
    # transformers fills these with random numbers, and says so in the log only.
    absent, other = sorted(report["missing_keys"]), sorted(str(key[0]) for key in report["mismatched_keys"])
    if absent:
        raise ConfigError(f"the weights in {path} lack {len(absent)} parameters, such as {absent[0]}")
    if other:
        raise ConfigError(
            f"the weights in {path} have {len(other)} parameters of another shape than config.json says, "
            f"such as {other[0]}"
        )
    return model, quantized


def _unloadable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(f"cannot load a chat model from {path}: {error}")


@contextmanager
def _without_bar() -> Iterator[None]:
    """No progress bar of transformers: a server's standard error is its log, one line of JSON for each record."""
    if not transformers_logging.is_progress_bar_enabled():
        yield
        return
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.enable_progress_bar()
