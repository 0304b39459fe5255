"""Ids to text, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

REPLACEMENT = "\ufffd"

PATIENCE = 128
"""Ids that may wait for the rest of a character. No character has so many; a run of broken bytes may."""


class Detokenizer:
    """Text of a growing list of ids, never half a character.

    Decodes a short window: the ids of the last piece, because a decoder may treat the first id of a text differently,
    and those after it. What the window's text has beyond what is known of it is new. While it ends in U+FFFD, which
    may be half a character, it is held back. Ids are taken one by one, so that the window is cut wherever a character
    ends: decoders that fall back to bytes read a run of them as one, and half a character at its end spoils it all.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], hidden: Collection[int] = ()) -> None:
        self._decode = decode
        self._hidden = hidden
        self._window: list[int] = []
        self._fresh = 0
        """Where in the window the ids begin whose text is not out."""
        self._known = ""
        """The window's text that is out."""

    def push(self, token_ids: Sequence[int]) -> str:
        """Text that is complete with these ids; may be empty."""
        return "".join([self._push(token_id) for token_id in token_ids if token_id not in self._hidden])

    def flush(self) -> str:
        """What was held back; an incomplete character becomes U+FFFD."""
        return self._advance(self._text(), len(self._window), "")

    def _push(self, token_id: int) -> str:
        self._window.append(token_id)
        text = self._text()
        if not text.endswith(REPLACEMENT):
            return self._advance(text, self._fresh, "")
        if len(self._window) - self._fresh > PATIENCE:
            # Only the last character can still be completed.
            return self._advance(text[:-1], len(self._window) - 8, REPLACEMENT)
        return ""

    def _text(self) -> str:
        text = self._decode(self._window)
        if not text.startswith(self._known):
            # A broken byte has changed how the run before it is read. That is out: go on after it.
            self._window = self._window[self._fresh :]
            self._fresh, self._known = 0, ""
            text = self._decode(self._window)
        return text

    def _advance(self, text: str, start: int, held: str) -> str:
        """Let `text` out, and shorten the window to its ids from `start`, of which the text `held` is not out."""
        piece = text[len(self._known) :]
        self._window = self._window[start:]
        self._fresh = len(self._window)
        self._known = self._decode(self._window).removesuffix(held)
        return piece
