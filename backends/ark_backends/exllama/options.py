"""The engines' own options, ``[models.engine]``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

PAGE = 256
"""Tokens of a page of the cache."""

Positive = Annotated[int, Meta(ge=1)]
Pages = Annotated[int, Meta(ge=PAGE, multiple_of=PAGE)]
Gigabytes = Annotated[float, Meta(ge=0)]
Factor = Annotated[float, Meta(ge=1)]


class ExLlamaOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What both engines have."""

    cache_tokens: Pages | None = None
    """Tokens of KV cache, of running jobs and retained conversations together, in whole pages of 256. By default as
    many as fit the free memory of the GPUs."""
    gpu_split: tuple[Gigabytes, ...] | None = None
    """Gigabytes of weights on each GPU, in order; 0 skips one. By default one GPU is filled after another."""
    tensor_parallel: bool = False
    """Split every layer over all GPUs instead of giving each GPU layers of its own."""
    prefill_chunk: Pages = 2048
    """Prompt tokens of one reply computed in one step, in whole pages of 256. Running streams wait for such a chunk, so
    a smaller one keeps them smoother, and a larger one prefills prompts faster."""
    max_running: Positive = 32
    """Replies computed together; more wait."""
    reserve: Pages = 1024
    """Tokens of a reply for which pages are reserved at a time. A longer reply continues as soon as there are pages for
    the next ones, so that replies with room for a whole context do not block each other."""
    draft_model: str | None = None
    """A smaller model with the same vocabulary, a directory or a hub id (name@revision too), which guesses tokens that
    the model then only checks. It makes one or two streams faster, and many slower."""
    draft_tokens: Annotated[int, Meta(ge=1, le=16)] = 4
    """Tokens that the draft model guesses for each step."""

    def __post_init__(self) -> None:
        if self.max_running * 8 > self.prefill_chunk:
            needed = -(-self.max_running * 8 // PAGE) * PAGE
            raise ValueError(f"max_running: {self.max_running} replies need a prefill_chunk of at least {needed}")


class ExLlamaV2Options(ExLlamaOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[models.engine]`` of a model served by ``exllamav2``."""

    cache_type: Literal["fp16", "q8", "q6", "q4"] = "fp16"
    """Bits of a number in the KV cache. ``q8`` holds nearly twice the tokens of ``fp16`` in the same memory, ``q4``
    nearly four times, less exactly."""
    rope_scale: Factor | None = None
    """Factor by which positions are divided, for a longer context (linear scaling). By default the model's own."""
    rope_alpha: Factor | None = None
    """Factor for the base of rotary embeddings, for a longer context without training (NTK scaling)."""


class ExLlamaV3Options(ExLlamaOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[models.engine]`` of a model served by ``exllamav3``."""

    cache_type: Literal["fp16", "q8", "q6", "q5", "q4", "q3", "q2"] = "fp16"
    """Bits of a number in the KV cache; fewer hold more tokens in the same memory, less exactly."""
    full_window: bool = True
    """Keep the KV cache of sliding-window layers for the whole conversation, so that its next turn finds all of it.
    Otherwise they take less memory, and a turn computes up to 2,048 tokens again."""
    warm_up: bool = True
    """Compile and tune the kernels when the model is opened instead of in its first requests."""


AnyOptions = ExLlamaV2Options | ExLlamaV3Options
