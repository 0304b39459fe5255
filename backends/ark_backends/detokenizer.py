"""Ids to text, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

REPLACEMENT = "\ufffd"


class Detokenizer:
    """Text of a growing list of ids, never half a character.

    Keeps a short window of ids: those whose text is out, as context (a decoder may treat the first token of a text
    differently), and those that are waiting. What the window's text has beyond the context's is new. While the text
    ends in U+FFFD its last bytes may be half a character, and are held back.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], hidden: Collection[int] = ()) -> None:
        self._decode = decode
        self._hidden = hidden
        self._context: list[int] = []
        self._waiting: list[int] = []
        self._known = ""
        """The text of the context."""

    def push(self, token_ids: Sequence[int]) -> str:
        """Text that is complete with these ids; may be empty."""
        self._waiting.extend(i for i in token_ids if i not in self._hidden)
        if not self._waiting:
            return ""
        text = self._decode(self._context + self._waiting)
        if text.endswith(REPLACEMENT):
            return ""
        return self._emit(text)

    def flush(self) -> str:
        """What was held back; an incomplete character becomes U+FFFD."""
        if not self._waiting:
            return ""
        return self._emit(self._decode(self._context + self._waiting))

    def _emit(self, text: str) -> str:
        new = text[len(self._known) :]
        if not new:
            return ""
        self._context, self._waiting = self._waiting, []
        self._known = self._decode(self._context)
        return new
