"""Ids to text, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

REPLACEMENT = "\ufffd"

PATIENCE = 32
"""Ids that may wait for the rest of a character. No character has so many; a run of broken bytes may."""


class Detokenizer:
    """Text of a growing list of ids, never half a character.

    Decodes a short window: the ids of the last piece, because a decoder may treat the first id of a text differently,
    and those after it. What the window's text has beyond what is known of it is new. U+FFFD at its end may be half a
    character, and is held back.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], hidden: Collection[int] = ()) -> None:
        self._decode = decode
        self._hidden = hidden
        self._window: list[int] = []
        self._fresh = 0
        """Where in the window the ids begin whose text is not all out."""
        self._known = ""
        """The window's text that is out."""
        self._partly = False
        """Some text of the fresh ids is out."""

    def push(self, token_ids: Sequence[int]) -> str:
        """Text that is complete with these ids; may be empty."""
        new = [i for i in token_ids if i not in self._hidden]
        if not new:
            return ""
        self._window += new
        text = self._text()
        waiting = len(self._window) - self._fresh
        if self._partly and not text.startswith(self._known) and waiting <= PATIENCE:
            return ""  # the run of bytes that these ids go on is not complete
        whole = text.rstrip(REPLACEMENT)
        if whole == text:
            return self._advance(text, self._fresh, "")
        if waiting > PATIENCE:
            # Only the last character can still be completed.
            return self._advance(text[:-1], len(self._window) - 8, REPLACEMENT)
        if len(whole) <= len(self._known):
            return ""
        piece, self._known, self._partly = whole[len(self._known) :], whole, True
        return piece

    def flush(self) -> str:
        """What was held back; an incomplete character becomes U+FFFD."""
        text = self._text()
        return self._advance(text, len(self._window), "")

    def _text(self) -> str:
        text = self._decode(self._window)
        if not self._partly and not text.startswith(self._known):
            # Decoders that fall back to bytes read a run of them as one: a broken byte has changed the characters
            # before it. They are out; go on after them.
            self._window = self._window[self._fresh :]
            self._fresh, self._known = 0, ""
            text = self._decode(self._window)
        return text

    def _advance(self, text: str, start: int, held: str) -> str:
        """Let `text` out, and shorten the window to its ids from `start`, of which the text `held` is not out."""
        piece = text[len(self._known) :]
        self._window = self._window[start:]
        self._fresh, self._partly = len(self._window), False
        self._known = self._decode(self._window).removesuffix(held) if held else self._decode(self._window)
        return piece
