"""A session and its conversations, the id that names it, and the ids of sessions that have expired."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from ark.config import SessionsConfig
from ark.sessions.transcript import Transcript

COOKIE = "ark_session_id"

SCOPE_BYTES = 16

Mode = Literal["match", "append"]

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


@dataclass(eq=False)
class Conversation:
    """One conversation of a session. Its transcript is replaced when a turn commits, never changed."""

    key: str
    """Names the conversation's state in the backend."""
    transcript: Transcript
    session: Session
    scopes: tuple[bytes, ...] = ()
    """By what it is found beside its session, as its latest turn says."""
    running: bool = False
    """A turn will replace the transcript; another one that wants to continue it forks."""


@dataclass(eq=False)
class Session:
    """The session of a cookie, or of an id that the client chose."""

    owner: str
    id: str
    issued: bool
    """ARK made the id and put it into a cookie. An id that a client chose is never accepted as a cookie."""
    trusted: bool
    """Somebody has come back to it, or the client chose the id itself."""
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

    def describe(self, config: SessionsConfig) -> SessionInfo:
        transcripts = [conversation.transcript for conversation in self.conversations.values()]
        return SessionInfo(
            id=self.id,
            kind="cookie" if self.issued else "named",
            created=self.created,
            last_used=self.used,
            expires=min(self.used + config.idle_timeout, self.created + config.max_age),
            running=self.turns,
            conversations=len(transcripts),
            messages=sum(len(transcript.messages) for transcript in transcripts),
            tokens=sum(transcript.length for transcript in transcripts),
            bytes=self.size,
            models=sorted({transcript.model for transcript in transcripts}),
        )


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
        """`limit`: ids kept for one owner, of trusted sessions and of others; the oldest are forgotten first."""
        self._limit = limit
        # Two for each owner, so that clients without a cookie jar cannot push out the ids that others will ask for.
        self._ids: dict[tuple[str, bool], OrderedDict[str, None]] = {}

    def add(self, owner: str, session_id: str, *, trusted: bool) -> None:
        ids = self._ids.setdefault((owner, trusted), OrderedDict())
        ids[session_id] = None
        ids.move_to_end(session_id)
        if len(ids) > self._limit:
            ids.popitem(last=False)

    def has(self, owner: str, session_id: str) -> bool:
        return any(session_id in self._ids.get((owner, trusted), ()) for trusted in (True, False))

    def discard(self, owner: str, session_id: str) -> bool:
        """Forget an id. False when it was not there."""
        known = self.has(owner, session_id)
        for trusted in (True, False):
            ids = self._ids.get((owner, trusted), OrderedDict())
            ids.pop(session_id, None)
            if not ids:
                self._ids.pop((owner, trusted), None)
        return known
