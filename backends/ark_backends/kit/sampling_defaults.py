"""What a request that says nothing about sampling gets, as far as the model's own files do not say."""

from __future__ import annotations

import re

from ark.engines.chat import SamplingParams

FAMILIES = {
    # As below. But so small a model never ends a list or a recipe: of 30 plain questions 14 went beyond 1,000 tokens.
    # With this none does, and it repeats what it was told as well as before, which a repetition penalty costs.
    r"smollm2-135m": SamplingParams(temperature=0.2, top_p=0.9, presence_penalty=0.4, frequency_penalty=0.1),
    r"smollm2": SamplingParams(temperature=0.2, top_p=0.9),
    r"smollm3": SamplingParams(temperature=0.6, top_p=0.95),
    r"qwen-?3": SamplingParams(temperature=0.6, top_p=0.95, top_k=20),
    r"qwen-?2": SamplingParams(temperature=0.7, top_p=0.8, top_k=20, repetition_penalty=1.05),
    r"llama-?3": SamplingParams(temperature=0.6, top_p=0.9),
    r"gemma": SamplingParams(temperature=1.0, top_p=0.95, top_k=64),
}
"""By a part of the model's name, the first that fits: what its makers recommend on its card or in its
generation_config."""

FILTERS = SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)
"""llama.cpp's own. A small model that is sampled from its whole distribution writes nonsense."""


def sampling_by_name(*names: str) -> SamplingParams:
    """The sampling parameters of a model's family; of an unknown one, those that do for most."""
    for pattern, params in FAMILIES.items():
        if any(re.search(pattern, name, re.IGNORECASE) for name in names):
            return params
    return FILTERS
