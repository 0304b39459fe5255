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
    """Type of weights and KV. ``auto`` on a CPU is float32, unless bfloat16 multiplies clearly faster there or
    float32 does not fit; on CUDA the checkpoint's own half type."""
    quantization: Literal["auto", "int8", "none"] = "auto"
    """``int8`` computes linear layers in 8 bits, on CPUs: weights by output channel, activations by token. It is
    several times faster and changes logits by a few percent, so some replies differ. ``auto`` is ``int8`` where the CPU
    has VNNI and the weights take 256 MB or more; ``none`` keeps the checkpoint's numbers."""
    keep_quantized: bool = False
    """Keep the layers in int8 beside the model, in ``model.ark-int8``, and take them from there at the next start. It
    takes as many bytes as the model has weights."""
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
