"""Decoding token ids to text as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

REPLACEMENT = "\ufffd"

PATIENCE = 128
"""Ids that may wait for the rest of a character. No character needs that many; a run of broken bytes may have them."""


class Detokenizer:
    """The text of a growing list of ids, never with half a character.

    It decodes a short window: the ids of the last text that was returned, because a decoder may treat the first id of
    a text differently, and those after it. Text is held back while it ends in U+FFFD, which may be half a character.
    Ids are decoded one by one, so that the window begins where a character ends: decoders with byte fallback read a run
    of bytes as one, and half a character at its end spoils all of it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], hidden: Collection[int] = ()) -> None:
        self._decode = decode
        self._hidden = hidden
        self._window: list[int] = []
        self._fresh = 0
        """Where in the window the ids begin whose text has not been returned."""
        self._known = ""
        """The part of the window's text that has been returned."""

    def push(self, token_ids: Sequence[int]) -> str:
        """The text that these ids complete; may be empty."""
        return "".join([self._push(token_id) for token_id in token_ids if token_id not in self._hidden])

    def flush(self) -> str:
        """The text that was held back; an incomplete character becomes U+FFFD."""
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
            # A broken byte has changed the text of the run before it, which has been returned: continue after it.
            self._window = self._window[self._fresh :]
            self._fresh, self._known = 0, ""
            text = self._decode(self._window)
        return text

    def _advance(self, text: str, start: int, held: str) -> str:
        """Return what is new in `text`. The window shrinks to its ids from `start`, whose text `held` is held back."""
        piece = text[len(self._known) :]
        self._window = self._window[start:]
        self._fresh = len(self._window)
        self._known = self._decode(self._window).removesuffix(held)
        return piece
