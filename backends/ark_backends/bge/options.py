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
    """``auto`` takes CUDA where it is available, else the CPU; or a torch device such as ``cpu`` or ``cuda:1``."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights. ``auto`` is float32 on a CPU; on CUDA bfloat16 for weights that are stored so, else
    float16."""
    threads: Positive | None = None
    """CPU threads of one forward pass; torch's own choice when it is not set. Where other programs keep the cores
    busy, 1 may be several times as fast: threads wait for each other at every operation."""
    pooling: Pooling | None = None
    """How the vectors of an input's tokens become one: that of the first token, of the last, or their mean. Read from
    the model's own ``1_Pooling/config.json`` when it is not set, and ``cls``, as in FlagEmbedding, where that is
    missing."""
    normalize: bool | None = None
    """Scale vectors to length 1. Read from the model's own ``modules.json`` when it is not set, and true where that is
    missing."""
    padding: bool | None = None
    """Compute inputs of different lengths side by side with padding, as transformers does, and not one behind the
    other without. Chosen by the device when it is not set: unpadded on a CPU, where the model allows it."""
    batch_tokens: Positive = 16_384
    """Tokens computed together at most. One input that is longer is computed alone."""
    batch_seconds: Seconds = 0.2
    """Time that one batch may take, by the speed seen so far: a new request waits no longer for its first batch. More
    gives larger batches, which a CPU computes up to a tenth faster and a GPU far more."""
    colbert_bytes: Positive = 256 * 1024 * 1024
    """ColBERT vectors of all requests that wait or are computed, 4 KiB for each token of BGE-M3. One request that asks
    for more is 400, and one that asks for more than the others leave is 429. As numbers in JSON they are five times as
    large."""
    max_waiting_inputs: Positive = 32_768
    """Inputs of all waiting requests together; more get 429."""
