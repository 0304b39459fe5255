"""Whose window is computed next."""

from __future__ import annotations

import threading
from collections import deque


class Turns:
    """Lets so many threads compute at the same time, in the order in which they came.

    A job that asks again for each of its windows stands behind the others each time: round robin by windows, in which
    an hour of speech does not hold up a minute. Unlike a semaphore of the standard library it never lets anybody in
    who came later.
    """

    def __init__(self, places: int) -> None:
        self._lock = threading.Lock()
        self._free = places
        self._waiting: deque[threading.Event] = deque()

    def take(self) -> None:
        """Wait for a turn."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()

    def give(self) -> None:
        """End a turn: it is the next one's."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._free += 1

    def pass_on(self) -> None:
        """End a turn and wait for another; nothing when nobody else waits."""
        with self._lock:
            if not self._waiting:
                return
            self._waiting.popleft().set()
            mine = threading.Event()
            self._waiting.append(mine)
        mine.wait()
