"""Reject an over-long text after tokenizing only its start.

A tokenizer takes half a minute and three gigabytes for 15 MB of text that would then be refused for its length.
"""

from __future__ import annotations

from collections.abc import Callable

CHUNK_SIZE = 64 * 1024
"""Characters that are tokenized at once: some hundredths of a second of work."""
_USUAL = 4
"""Characters of a token in ordinary text: one that may well fit is not looked at."""
_LONGEST = 128
"""Characters of a token, on average, in the longest text that is tokenized as a whole."""
_WHOLE = 4 * CHUNK_SIZE
"""Characters that are tokenized as a whole for any budget."""
_MARGIN = 2
"""Times the budget at which the search stops: a text that is cut in the middle of a word has some more tokens."""


def over_budget(text: str, budget: int, count: Callable[[str], int]) -> int:
    """The length of a prefix with more than `budget` tokens, if the text has far more; else 0.

    `count` gives the number of tokens of a text by itself. A word of 16 MB may be one token, and takes a gigabyte to
    find that out: of a text that has far more characters than so many tokens usually have, the length of a prefix that
    has not.
    """
    most = max(_WHOLE, _LONGEST * budget)
    if len(text) <= max(CHUNK_SIZE, _USUAL * budget):
        return 0
    seen = 0
    for start in range(0, min(len(text), most), CHUNK_SIZE):
        seen += count(text[start : start + CHUNK_SIZE])
        if seen > _MARGIN * budget:
            # Once more in one, ending with a word: long words may be one token, and parts of them many.
            prefix = text[: start + CHUNK_SIZE]
            words, _, _ = prefix.rpartition(" ")
            prefix = words or prefix
            if count(prefix) > budget:
                return len(prefix)
            break
    return most if len(text) > most else 0
