"""The record of a run: counts of what was done, and the first failures of each kind as text."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

SHOWN = 50
"""Failures that are kept as text; all are counted."""


@dataclass
class Book:
    """All clients write to it."""

    done: Counter[str] = field(default_factory=Counter)
    """Tasks by kind."""
    statuses: Counter[int] = field(default_factory=Counter)
    """Replies by status."""
    failures: Counter[str] = field(default_factory=Counter)
    """Failures by kind."""
    notes: list[str] = field(default_factory=list)
    waits: list[tuple[str, float, float]] = field(default_factory=list)
    """Of each honest request its kind, when it was sent by the monotonic clock, and the seconds until its whole answer.
    """

    def wait(self, kind: str, sent: float) -> None:
        self.waits.append((kind, sent, time.monotonic() - sent))

    def fail(self, kind: str, note: str) -> None:
        self.failures[kind] += 1
        if len(self.notes) < SHOWN:
            self.notes.append(f"{kind}: {note}")
