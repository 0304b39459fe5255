"""Stop strings, matched in text that comes in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Passes text on until one of the stop strings stands in it.

    Text that may begin a stop string is held back until it is decided, so that nothing of a stop string is ever passed
    on. The stop string that is complete first wins, of two that end together the longer one: how the text is cut makes
    no difference.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.matched: str | None = None
        self.dropped = 0
        """Characters at the end of the text that was pushed which have not been passed on."""

    def push(self, text: str) -> str:
        """What may be passed on. After a match it is always empty."""
        if self.matched is not None:
            return ""
        text = self._held + text
        found = [(at + len(stop), at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            _, begin, self.matched = min(found)
            self._held = ""
            self.dropped = len(text) - begin
            return text[:begin]
        keep = len(text) - partial_end(text, self._stops)
        self._held = text[keep:]
        self.dropped = len(self._held)
        return text[:keep]

    def flush(self) -> str:
        """What was held back, at the end of the text."""
        held, self._held = self._held, ""
        if self.matched is None:
            self.dropped = 0
        return held


def partial_end(text: str, markers: Sequence[str]) -> int:
    """Length of the longest end of `text` with which one of some markers begins, and does not end."""
    longest = min(max(map(len, markers), default=0) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if any(marker.startswith(text[-n:]) for marker in markers)), 0)
