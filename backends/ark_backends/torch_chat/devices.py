"""Which device and number type a model runs on, and how much memory there is."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch

from ark.config import ConfigError
from ark.engines import machine
from ark_backends.kit.devices import device
from ark_backends.torch_chat import compiled

__all__ = ["KV_SHARE", "checkpoint_bytes", "device", "dtype", "free_bytes", "int8_wanted"]

log = logging.getLogger("ark.torch_chat")

KV_SHARE = 0.4
"""Share of the free memory that KV may take when nothing else is configured."""

SMALL = 256 << 20
"""Bytes of float32 weights below which half the memory is not worth a rounding error."""

CLEARLY = 1.2
"""How much faster bfloat16 has to be: it is less exact, and a busy machine must not decide by chance."""


def float32_bytes(config: Any, checkpoint: int) -> int:
    """What weights take in float32 whose files take `checkpoint` bytes."""
    return checkpoint if _stored(config) is torch.float32 else 2 * checkpoint


def dtype(name: str, target: torch.device, config: Any, checkpoint: int, *, exact: bool = False) -> torch.dtype:
    """The type of the option `dtype`; `checkpoint` is the size of the weight files in bytes. `exact` is whether what
    computes on a CPU takes numbers in bfloat16 as they are, and computes with them in float32."""
    if name != "auto":
        chosen: torch.dtype = getattr(torch, name)
        return chosen
    stored = _stored(config)
    if target.type != "cpu":
        half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return stored if stored in (torch.bfloat16, torch.float16) else half
    as_float32 = float32_bytes(config, checkpoint)
    free = free_bytes(target)
    if exact and stored is torch.bfloat16:
        log.info("dtype bfloat16: the checkpoint's own")
        return torch.bfloat16
    if as_float32 > 0.7 * free:
        log.warning(
            "dtype bfloat16: in float32 the weights take %d MB of %d free%s",
            as_float32 >> 20,
            free >> 20,
            "" if stored is torch.bfloat16 else "; they are rounded",
        )
        return torch.bfloat16
    if stored is not torch.bfloat16 or as_float32 < SMALL:
        return torch.float32
    return _faster(config)


def _faster(config: Any) -> torch.dtype:
    """The one of float32 and bfloat16 that multiplies faster on this CPU."""
    text = config.get_text_config()
    hidden = int(getattr(text, "hidden_size", 1024))
    wide = int(getattr(text, "intermediate_size", None) or 4 * hidden)
    full, half_time = _matmul_times(hidden, wide)
    best = torch.bfloat16 if half_time * CLEARLY < full else torch.float32
    log.info(
        "dtype %s: 8 rows through %d x %d take %.0f us in float32, %.0f us in bfloat16",
        str(best).removeprefix("torch."),
        hidden,
        wide,
        full * 1e6,
        half_time * 1e6,
    )
    return best


def _stored(config: Any) -> torch.dtype | None:
    stored = getattr(config, "dtype", None)
    if isinstance(stored, str):
        stored = getattr(torch, stored, None)
    return stored if isinstance(stored, torch.dtype) else None


def checkpoint_bytes(path: Path) -> int:
    """Size of the weight files in a directory."""
    return sum(file.stat().st_size for pattern in ("*.safetensors", "*.bin") for file in path.glob(pattern))


def free_bytes(target: torch.device) -> int:
    """Memory that can still be taken on a device, in bytes."""
    if target.type == "cuda":
        free, _ = torch.cuda.mem_get_info(target)
        return int(free)
    return machine.free_memory()


def _matmul_times(hidden: int, wide: int) -> tuple[float, float]:
    """Seconds of one product of 8 rows with a weight of the model's shape, in float32 and in bfloat16.

    The best of several, taken in turns, so that what else runs on the machine hits both.
    """
    kinds = (torch.float32, torch.bfloat16)
    operands = [(torch.ones(8, hidden, dtype=kind), torch.ones(wide, hidden, dtype=kind)) for kind in kinds]
    best = [float("inf"), float("inf")]
    with torch.inference_mode():
        for _ in range(15):
            for i, (rows, weight) in enumerate(operands):
                start = time.perf_counter()
                torch.nn.functional.linear(rows, weight)
                best[i] = min(best[i], time.perf_counter() - start)
    return best[0], best[1]


def int8_wanted(option: str, target: torch.device, size: int) -> bool:
    """Whether a model of `size` bytes in float32 is to be quantized. Raises ConfigError where it cannot be.

    `auto` is int8 where the compiled kernels run, and the model is large enough to gain by it.
    """
    if option == "none" or (option == "auto" and (target.type != "cpu" or size < SMALL)):
        return False
    reason = compiled.unable() if target.type == "cpu" else f"it is for CPUs, and the device is {target}"
    if reason is not None and option == "int8":
        raise ConfigError(f"quantization = 'int8' cannot be used: {reason}")
    if reason is not None:
        log.info("quantization none: %s", reason)
    return reason is None
