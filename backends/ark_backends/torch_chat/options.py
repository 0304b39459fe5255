"""The engine's own options, ``[models.engine]``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]


class TorchChatOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[models.engine]`` of a model served by ``torch_chat``."""

    device: str = "auto"
    """``auto`` takes CUDA where it is available, else the CPU; or a torch device such as ``cpu`` or ``cuda:1``."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights. ``auto`` on a CPU keeps those of a checkpoint in float32, unless they do not fit, and those
    in bfloat16 where the compiled kernels compute with them in float32 or it multiplies clearly faster; on CUDA it is
    the checkpoint's own half type."""
    quantization: Literal["auto", "int8", "none"] = "auto"
    """``int8`` computes linear layers in 8 bits, on CPUs: 32 weights and 32 activations share a scale, as in GGUF's
    Q8_0. It is several times faster, and some replies differ. ``auto`` is ``int8`` where the CPU has VNNI and the
    weights take 256 MB or more; ``none`` keeps the checkpoint's numbers."""
    threads: Positive | None = None
    """CPU threads of one forward pass; torch's own choice when it is not set."""
    prefill_chunk: Positive = 256
    """Prompt tokens computed in one step, of all waiting prompts together. Running streams wait for at most one
    such piece; smaller keeps them smoother, larger reads prompts faster."""
    max_running: Positive = 16
    """Jobs computed together; more wait."""
    kv_bytes: Positive | None = None
    """Bytes of KV, of running jobs and retained states together. A share of the free memory when it is not set."""
    self_check: bool = True
    """Compare the packed forward pass with the model's own at load, and refuse a model where they differ."""
