"""Where transcripts live beside memory: the protocol, and the values that cross it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from ark.sessions.session import Session
from ark.sessions.transcript import Transcript


class StorageError(Exception):
    """Transcripts could not be written or read. The message is for the log."""


class SavedTurn(msgspec.Struct, frozen=True, kw_only=True):
    """What is written when a turn commits: a snapshot, because the session goes on changing meanwhile."""

    owner: str
    session: str
    issued: bool
    trusted: bool
    created: float
    used: float
    key: str
    """Of the conversation."""
    transcript: Transcript


@dataclass
class Saved:
    """All that a storage has."""

    sessions: list[Session] = field(default_factory=list)
    expired: list[tuple[str, str]] = field(default_factory=list)
    """(owner, id) of sessions that have expired, the oldest first."""


class TranscriptStorage(Protocol):
    """Keeps what the store commits. Calls take effect in the order in which they are made."""

    async def open(self) -> Saved:
        """Everything that was saved. Raises StorageError."""
        ...

    async def save(self, turn: SavedTurn) -> None:
        """Returns when the turn would survive the end of the process. Raises StorageError.

        The write is under way once the call has begun; cancelling the wait does not stop it.
        """
        ...

    def forget_session(self, owner: str, session: str, *, expired: bool) -> None:
        """Drop a session soon. `expired` remembers that it existed; otherwise that is forgotten too."""
        ...

    def forget_conversations(self, keys: Sequence[str]) -> None:
        """Drop some conversations of a session soon."""
        ...

    async def close(self) -> None:
        """Returns when everything that was asked for is done."""
        ...
