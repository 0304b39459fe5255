"""What keeps sessions through a restart: a protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ark.sessions.session import Session
from ark.sessions.transcript import Transcript


class StorageError(Exception):
    """Transcripts could not be written or read. The message is for the log."""


@dataclass
class Saved:
    """All that a storage has."""

    sessions: list[Session] = field(default_factory=list)
    expired: list[tuple[str, str]] = field(default_factory=list)
    """(owner, id) of sessions that have expired, the oldest first."""
    records: dict[str, bytes] = field(default_factory=dict)
    """What `save_record` wrote."""


class TranscriptStorage(Protocol):
    """Keeps what the store commits. Calls take effect in the order in which they are made."""

    async def open(self) -> Saved:
        """Everything that was saved. Raises StorageError."""
        ...

    async def save(self, session: Session, key: str, transcript: Transcript, scopes: tuple[bytes, ...]) -> None:
        """Write a conversation; returns when it would survive the end of the process. Raises StorageError.

        `session` is a copy, because the session changes meanwhile. Cancelling the wait does not stop the write.
        """
        ...

    def forget_session(self, owner: str, session: str, *, expired: bool) -> None:
        """Drop a session soon. `expired` remembers that it existed; otherwise that is forgotten too."""
        ...

    def forget_conversations(self, keys: Sequence[str]) -> None:
        """Drop some conversations of a session soon."""
        ...

    async def save_record(self, key: str, value: bytes) -> None:
        """Write bytes that belong to no session, as `save` writes a transcript. Raises StorageError."""
        ...

    def forget_records(self, keys: Sequence[str]) -> None:
        """Drop records soon."""
        ...

    async def flush(self) -> None:
        """Returns when everything that was asked for so far is done. Raises StorageError."""
        ...

    async def close(self) -> None:
        """Returns when everything that was asked for is done."""
        ...
