"""The backend's own options, ``[models.engine]``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(gt=0)]
Pooling = Literal["cls", "mean", "last"]


class BgeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[models.engine]`` of a model served by ``bge``."""

    device: str = "auto"
    """``auto`` takes CUDA if it is available, else the CPU; or a torch device such as ``cpu`` or ``cuda:1``."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights. ``auto`` is float32 on a CPU; on CUDA bfloat16 if the weights are stored so, else
    float16."""
    threads: Positive | None = None
    """CPU threads of one forward pass; torch's own choice by default. If other programs keep the cores busy, 1 may be
    several times as fast, because threads wait for each other at every operation."""
    pooling: Pooling | None = None
    """How the vectors of an input's tokens become one: that of the first token, of the last, or their mean. By default
    read from the model's ``1_Pooling/config.json``, and ``cls``, as in FlagEmbedding, if that is missing."""
    normalize: bool | None = None
    """Scale vectors to length 1. By default read from the model's ``modules.json``, and true if that is missing."""
    padding: bool | None = None
    """Compute inputs of different lengths side by side with padding, as transformers does, instead of one after another
    without. By default the device decides: without padding on a CPU, if the model allows it."""
    batch_tokens: Positive = 16_384
    """Largest number of tokens computed together. A longer input is computed alone."""
    batch_seconds: Seconds = 0.2
    """Seconds that one batch may take, by the speed so far, which is the longest that a new request waits for its first
    batch. Larger batches are up to a tenth faster on a CPU, and far more on a GPU."""
    colbert_bytes: Positive = 256 * 1024 * 1024
    """Bytes of the ColBERT vectors of all waiting and running requests, 4 KiB for each token of BGE-M3. A request that
    needs more is 400, and one that needs more than the others leave is 429. As numbers in JSON they are five times as
    large."""
    max_waiting_inputs: Positive = 32_768
    """Inputs of all waiting requests together; more get 429."""
