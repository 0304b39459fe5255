"""The engine's own options, ``[models.engine]``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]


class TorchChatOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[models.engine]`` of a model served by ``torch_chat``."""

    device: str = "auto"
    """``auto`` takes CUDA if it is available, else the CPU; or a torch device such as ``cpu`` or ``cuda:1``."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights. On a CPU ``auto`` keeps a checkpoint's float32 if it fits into memory, and its bfloat16 if
    the compiled kernels compute the model or bfloat16 multiplies clearly faster. On CUDA it is the checkpoint's own
    half-precision type."""
    quantization: Literal["auto", "int8", "none"] = "auto"
    """``int8`` computes linear layers in 8 bits, on CPUs: 32 weights share a scale, and so do 32 activations, as in
    GGUF's Q8_0. It is several times faster, and some replies differ. ``auto`` is ``int8`` if the CPU has VNNI and the
    weights take 256 MB or more. ``none`` keeps the checkpoint's numbers."""
    threads: Positive | None = None
    """CPU threads of one forward pass; torch's own choice by default."""
    prefill_chunk: Positive = 256
    """Prompt tokens computed in one step, of all waiting prompts together. Running streams wait for at most one such
    chunk, so a smaller one keeps them smoother, and a larger one prefills prompts faster."""
    max_running: Positive = 16
    """Jobs computed together; more wait."""
    kv_bytes: Positive | None = None
    """Bytes of KV cache, of running jobs and retained conversations together. By default a share of the free memory."""
    self_check: bool = True
    """Compare the packed forward pass with the model's own at load, and refuse the model if they differ. A GGUF is
    compared the first time, in a process of its own."""
