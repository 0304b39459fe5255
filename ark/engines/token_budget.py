"""Texts that are far too long for a model, known as such by their beginning.

A tokenizer takes half a minute and three gigabytes for 15 MB of text, which would then be refused for its length.
"""

from __future__ import annotations

from collections.abc import Callable

PIECE = 64 * 1024
"""Characters that are counted at once: some hundredths of a second of work."""
_USUAL = 4
"""Characters of a token in ordinary text: one that may well fit is not looked at."""
_MARGIN = 2
"""Times the tokens that there may be. A text that is cut in the middle of a word has some more than the whole."""


def overlong(text: str, most: int, count: Callable[[str], int]) -> int:
    """How many characters at the beginning of a text have more than `most` tokens together, where it has far more.

    0 where it has not, or is not known to. `count` gives the tokens of a text by itself.
    """
    if len(text) <= max(PIECE, _USUAL * most):
        return 0
    seen = 0
    for start in range(0, len(text), PIECE):
        seen += count(text[start : start + PIECE])
        if seen > _MARGIN * most:
            # In one, and ending with a word: long words may be one token, and pieces of them many.
            beginning = text[: start + PIECE]
            words, _, _ = beginning.rpartition(" ")
            beginning = words or beginning
            return len(beginning) if count(beginning) > most else 0
    return 0
