"""Tokens of a reply whose text was cut by a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from ark.engines.chat import Tokenizer

_STEPS = 8


def truncate_ids(tokenizer: Tokenizer, ids: Sequence[int], kept: int) -> list[int]:
    """Ids whose text is the first `kept` characters of the text of `ids`, as the tokenizer's stream gives it.

    The ids up to the cut stay as they are. Where it falls inside a token, the part before it is encoded anew.
    """
    stream = tokenizer.stream()
    text = ""
    # The first count of ids that gives so many characters: the next one may begin another character.
    counts = {0: 0}
    for count, token in enumerate(ids, 1):
        text += stream.push((token,))
        counts.setdefault(len(text), count)
    wanted = (text + stream.flush())[:kept]
    whole = [(end, count) for end, count in counts.items() if end <= len(wanted)]
    results = [[*ids[:count], *tokenizer.encode(wanted[end:])] for end, count in whole[: -_STEPS - 1 : -1]]
    exact = (result for result in results if _text(tokenizer, result) == wanted)
    return next(exact, results[0])


def _text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    stream = tokenizer.stream()
    return stream.push(ids) + stream.flush()
