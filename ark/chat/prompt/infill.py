"""Prompts for models that fill in what is missing between two texts."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ark.engines.chat import Tokenizer


class InfillFormat(msgspec.Struct, frozen=True):
    """The tokens of a family, and what a prompt is of: them, the text before and the text after."""

    prefix: str
    suffix: str
    middle: str
    order: str = "{prefix}{before}{suffix}{after}{middle}"

    @property
    def tokens(self) -> Sequence[str]:
        return [token for token in (self.prefix, self.suffix, self.middle) if token]

    def prompt(self, before: str, after: str) -> str:
        return self.order.format(prefix=self.prefix, suffix=self.suffix, middle=self.middle, before=before, after=after)


_FORMATS = (
    # Qwen2.5-Coder, CodeGemma
    InfillFormat("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    # StarCoder, StarCoder2, Granite's code models
    InfillFormat("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    # CodeLlama
    InfillFormat("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>", "{prefix} {before} {suffix}{after} {middle}"),
    # DeepSeek-Coder
    InfillFormat("<\uff5cfim\u2581begin\uff5c>", "<\uff5cfim\u2581hole\uff5c>", "<\uff5cfim\u2581end\uff5c>"),
    # Codestral
    InfillFormat("[PREFIX]", "[SUFFIX]", "", "{suffix}{after}{prefix}{before}"),
)


def find_format(tokenizer: Tokenizer) -> InfillFormat | None:
    """How a model is asked; None for one that fills nothing in."""
    for form in _FORMATS:
        if all(len(tokenizer.encode(token)) == 1 for token in form.tokens):
            return form
    return None
