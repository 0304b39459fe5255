"""A session, the id that names it, and the ids of sessions that have expired."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from ark.sessions.transcript import Conversation

COOKIE = "ark_session_id"

Mode = Literal["match", "append"]

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


@dataclass(eq=False)
class Session:
    """The session of a cookie, or of an id that the client chose."""

    owner: str
    id: str
    issued: bool
    """ARK made the id and put it into a cookie. An id that a client chose is never accepted as a cookie."""
    trusted: bool
    """The client is known to keep the id: the cookie came back, or the client chose the id itself."""
    created: float
    used: float
    conversations: OrderedDict[str, Conversation] = field(default_factory=OrderedDict)
    """By key, the most recently used last."""
    size: int = 0
    """Bytes of all transcripts."""
    turns: int = 0
    """Turns in progress. Nothing evicts a session that has one."""
    appending: bool = False
    """One of the turns is in append mode; there is never a second one."""
    deleted: bool = False
    """A turn that still runs commits nothing."""


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A session as GET /sessions lists it. Times are seconds of the Unix clock."""

    id: str
    kind: Literal["cookie", "named"]
    """Whether ARK issued the id in a cookie or the client chose it."""
    created: float
    last_used: float
    expires: float
    """When it expires if it is not used again."""
    running: int
    """Turns in progress."""
    conversations: int
    messages: int
    tokens: int
    bytes: int
    models: list[str]


def parse_session_id(text: str) -> str | None:
    """The id in lower case, or None when the text is no UUID in its usual 36 characters."""
    lowered = text.lower()
    return lowered if _UUID.match(lowered) else None


class ExpiredIds:
    """Ids of sessions that have expired, so that nobody continues one from nothing without knowing it."""

    def __init__(self, limit: int) -> None:
        """`limit`: ids kept for one owner; the oldest are forgotten first."""
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
        known = self.has(owner, session_id)
        if known:
            del self._owners[owner][session_id]
            if not self._owners[owner]:
                del self._owners[owner]
        return known
