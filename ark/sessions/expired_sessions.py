"""The ids of sessions that have expired, so that nobody continues one from nothing without knowing it."""

from __future__ import annotations

from collections import OrderedDict


class Tombstones:
    """Ids by owner; each owner's oldest are forgotten first."""

    def __init__(self, limit: int) -> None:
        """`limit`: ids kept for one owner."""
        self._limit = limit
        self._owners: dict[str, OrderedDict[str, None]] = {}

    def add(self, owner: str, session_id: str) -> None:
        mine = self._owners.setdefault(owner, OrderedDict())
        mine[session_id] = None
        mine.move_to_end(session_id)
        if len(mine) > self._limit:
            mine.popitem(last=False)

    def has(self, owner: str, session_id: str) -> bool:
        return session_id in self._owners.get(owner, ())

    def discard(self, owner: str, session_id: str) -> bool:
        """Forget an id. False when it was not there."""
        mine = self._owners.get(owner)
        if mine is None or session_id not in mine:
            return False
        del mine[session_id]
        if not mine:
            del self._owners[owner]
        return True
