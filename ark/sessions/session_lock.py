"""One turn at a time for a session."""

from __future__ import annotations

import anyio

from ark.errors import Conflict

Place = tuple[str, str]
"""(owner, session id); the session need not exist yet."""


class Gate:
    """Lets one task at a time into each place, in the order in which they came."""

    def __init__(self) -> None:
        self._open: dict[Place, anyio.Semaphore] = {}
        self._users: dict[Place, int] = {}

    async def enter(self, place: Place, wait: float) -> None:
        """Returns when the place is free. Raises Conflict `session_busy` after `wait` seconds."""
        # A semaphore and not a lock: a stream may end in another task than the one that began it.
        semaphore = self._open.setdefault(place, anyio.Semaphore(1, max_value=1))
        self._users[place] = self._users.get(place, 0) + 1
        entered = False
        try:
            try:
                semaphore.acquire_nowait()
                entered = True
            except anyio.WouldBlock:
                with anyio.move_on_after(wait):
                    await semaphore.acquire()
                    entered = True
        finally:
            if not entered:
                self._drop(place)
        if not entered:
            raise Conflict(f"The session {place[1]} is busy with another turn.", code="session_busy")

    def leave(self, place: Place) -> None:
        """Lets the next one in."""
        self._open[place].release()
        self._drop(place)

    def _drop(self, place: Place) -> None:
        self._users[place] -= 1
        if not self._users[place]:
            del self._users[place], self._open[place]
