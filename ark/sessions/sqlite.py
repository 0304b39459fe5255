"""Transcripts in an SQLite file, written by a thread of their own.

Turns that commit at the same time share one transaction. The log is write-ahead and synchronised at checkpoints: what
was saved survives the process, kill -9 included; a power failure may lose the last turns, and never damages the file.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread

from ark.sessions.sqlite_file import SqliteFile
from ark.sessions.storage import Saved, SavedTurn, StorageError

log = logging.getLogger("ark.sessions")

_BATCH = 256

_Work = Callable[[SqliteFile], None]


class _Ticket:
    """The wait for one piece of work, from the event loop."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.loop = anyio.lowlevel.current_token()
        self.error: Exception | None = None

    async def wait(self) -> None:
        await self.done.wait()
        if self.error is not None:
            raise StorageError(str(self.error)) from self.error


class SqliteStorage:
    """`TranscriptStorage` in one file, which only one process may have open."""

    def __init__(self, path: str | Path) -> None:
        self._file = SqliteFile(Path(path))
        self._queue: queue.SimpleQueue[tuple[_Work, _Ticket | None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._owed: list[_Work] = []

    async def open(self) -> Saved:
        saved = await anyio.to_thread.run_sync(self._file.open)
        self._thread = threading.Thread(target=self._run, name="ark-sessions", daemon=True)
        self._thread.start()
        return saved

    async def save(self, turn: SavedTurn) -> None:
        if self._thread is None:
            raise StorageError("the storage is not open")
        ticket = _Ticket()
        self._queue.put((partial(SqliteFile.save, turn=turn), ticket))
        await ticket.wait()

    def forget_session(self, owner: str, session: str, *, expired: bool) -> None:
        self._soon(partial(SqliteFile.forget_session, owner=owner, session=session, expired=expired))

    def forget_conversations(self, keys: Sequence[str]) -> None:
        self._soon(partial(SqliteFile.forget_conversations, keys=tuple(keys)))

    async def close(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._thread.join)
            self._thread = None

    def _soon(self, work: _Work) -> None:
        self._queue.put((work, None))

    def _run(self) -> None:
        more = True
        while more:
            batch, more = self._take()
            # What should be forgotten must not come back with the next start, so it is tried until it is done.
            owed, self._owed = self._owed, []
            work = [*((item, None) for item in owed), *batch]
            if work and self._attempt(work) is not None:
                self._one_by_one(work)
            _wake([ticket for _, ticket in batch if ticket is not None])
        self._file.close()

    def _attempt(self, work: Sequence[tuple[_Work, _Ticket | None]]) -> Exception | None:
        try:
            self._file.transaction([item for item, _ in work])
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread lives on and the turn is answered
            return error
        return None

    def _one_by_one(self, work: Sequence[tuple[_Work, _Ticket | None]]) -> None:
        """One of them may be at fault, so each is tried by itself, in the same order.

        Behind something that could not be forgotten nothing is written: forgetting it later would take a newer
        session of the same name with it.
        """
        stuck: Exception | None = None
        for item, ticket in work:
            error = stuck or self._attempt([(item, ticket)])
            if error is None:
                continue
            if ticket is not None:
                ticket.error = error
                continue
            if stuck is None:
                log.error("sessions could not be removed from the disk yet: %s", error)
            stuck = error
            self._owed.append(item)

    def _take(self) -> tuple[list[tuple[_Work, _Ticket | None]], bool]:
        """What waits, at least one piece; and whether more may come."""
        batch: list[tuple[_Work, _Ticket | None]] = []
        item = self._queue.get()
        while item is not None:
            batch.append(item)
            if len(batch) == _BATCH or self._queue.empty():
                return batch, True
            item = self._queue.get()
        return batch, False


def _wake(tickets: Sequence[_Ticket]) -> None:
    loops = {ticket.loop for ticket in tickets}
    for loop in loops:
        events = [ticket.done for ticket in tickets if ticket.loop == loop]
        # The loop may have ended; then nobody waits.
        with suppress(RuntimeError):
            anyio.from_thread.run_sync(_set, events, token=loop)


def _set(events: Sequence[anyio.Event]) -> None:
    for event in events:
        event.set()
