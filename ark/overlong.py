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
    """How many characters at the beginning of a text have far more than `most` tokens together.

    0 where the text has not, which does not say that it has no more than `most`. `count` gives the tokens of a piece of
    the text.
    """
    if len(text) <= max(PIECE, _USUAL * most):
        return 0
    seen = 0
    for start in range(0, len(text), PIECE):
        seen += count(text[start : start + PIECE])
        if seen > _MARGIN * most:
            return min(start + PIECE, len(text))
    return 0
