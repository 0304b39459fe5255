"""Prompts for models that fill in what is missing between two texts."""

from __future__ import annotations

from collections.abc import Mapping

from ark.engines.chat import Tokenizer

# How the families write it, by the token that shows which one a model is of.
_FORMATS: Mapping[str, tuple[str, str, str]] = {
    # Qwen2.5-Coder, CodeGemma
    "<|fim_prefix|>": ("<|fim_prefix|>{prefix}", "<|fim_suffix|>{suffix}", "<|fim_middle|>"),
    # StarCoder, StarCoder2, Granite code models
    "<fim_prefix>": ("<fim_prefix>{prefix}", "<fim_suffix>{suffix}", "<fim_middle>"),
    # CodeLlama
    "\u2581<PRE>": ("\u2581<PRE> {prefix}", " \u2581<SUF>{suffix}", " \u2581<MID>"),
    # DeepSeek-Coder
    "<\uff5cfim\u2581begin\uff5c>": (
        "<\uff5cfim\u2581begin\uff5c>{prefix}",
        "<\uff5cfim\u2581hole\uff5c>{suffix}",
        "<\uff5cfim\u2581end\uff5c>",
    ),
    # Codestral
    "[SUFFIX]": ("[SUFFIX]{suffix}", "[PREFIX]{prefix}", ""),
}


def find_format(tokenizer: Tokenizer) -> str | None:
    """The text of a prompt with places for ``{prefix}`` and ``{suffix}``; None for a model that fills nothing in."""
    for first, parts in _FORMATS.items():
        if len(tokenizer.encode(first)) == 1:
            return "".join(parts)
    return None
