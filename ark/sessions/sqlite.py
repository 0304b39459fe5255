"""Store transcripts in an SQLite file, from one writer thread.

Turns that commit at the same time share one transaction. The log is write-ahead, synchronised at checkpoints: a saved
turn survives the process, kill -9 included. A power failure may lose the last turns; it never damages the file.
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

from ark.sessions.session import Session
from ark.sessions.sqlite_file import SqliteFile
from ark.sessions.storage import Saved, StorageError
from ark.sessions.transcript import Transcript

log = logging.getLogger("ark.sessions")

_BATCH = 256
"""Operations in one transaction at most."""

Operation = Callable[[SqliteFile], None]


class Completion:
    """When an operation is done, and how it ended, for the event loop that waits for it."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.loop = anyio.lowlevel.current_token()
        self.error: Exception | None = None

    async def wait(self) -> None:
        await self.done.wait()
        if self.error is not None:
            raise StorageError(str(self.error)) from self.error


Entry = tuple[Operation, Completion | None]
"""An operation; None for one that nobody waits for."""


class SqliteStorage:
    """`TranscriptStorage` in one file, which one process may have open."""

    def __init__(self, path: str | Path) -> None:
        self._file = SqliteFile(Path(path))
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._unfinished: list[Operation] = []
        """What could not be forgotten yet, the oldest first."""

    async def open(self) -> Saved:
        saved = await anyio.to_thread.run_sync(self._file.open)
        self._thread = threading.Thread(target=self._run, name="ark-sessions", daemon=True)
        self._thread.start()
        return saved

    async def save(self, session: Session, key: str, transcript: Transcript, scopes: tuple[bytes, ...]) -> None:
        await self._write(partial(SqliteFile.save, session=session, key=key, transcript=transcript, scopes=scopes))

    async def save_record(self, key: str, value: bytes) -> None:
        await self._write(partial(SqliteFile.save_record, key=key, value=value))

    def forget_records(self, keys: Sequence[str]) -> None:
        self._queue.put((partial(SqliteFile.forget_records, keys=tuple(keys)), None))

    def forget_session(self, owner: str, session: str, *, expired: bool) -> None:
        self._queue.put((partial(SqliteFile.forget_session, owner=owner, session=session, expired=expired), None))

    def forget_conversations(self, keys: Sequence[str]) -> None:
        self._queue.put((partial(SqliteFile.forget_conversations, keys=tuple(keys)), None))

    async def flush(self) -> None:
        await self._write(lambda _: None)

    async def close(self) -> None:
        if self._thread is not None:
            self._queue.put(None)
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._thread.join)
            self._thread = None

    async def _write(self, operation: Operation) -> None:
        if self._thread is None:
            raise StorageError("the storage is not open")
        completion = Completion()
        self._queue.put((operation, completion))
        await completion.wait()

    def _run(self) -> None:
        more = True
        while more:
            batch, more = self._take()
            # What should be forgotten must not come back with the next start, so it is tried until it is done.
            retried: list[Entry] = [(operation, None) for operation in self._unfinished]
            self._unfinished = []
            entries = [*retried, *batch]
            if entries and self._attempt(entries) is not None:
                self._one_by_one(entries)
            _wake([completion for _, completion in batch if completion is not None])
        self._file.close()

    def _attempt(self, entries: Sequence[Entry]) -> Exception | None:
        try:
            self._file.transaction([operation for operation, _ in entries])
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread lives on and the turn is answered
            return error
        return None

    def _one_by_one(self, entries: Sequence[Entry]) -> None:
        """Try each by itself, in the same order, because one of them may be at fault.

        Behind something that could not be forgotten nothing is written: forgetting it later would take a newer
        session of the same name with it.
        """
        stuck: Exception | None = None
        for operation, completion in entries:
            error = stuck or self._attempt([(operation, completion)])
            if error is None:
                continue
            if completion is not None:
                completion.error = error
                continue
            if stuck is None:
                log.error("sessions could not be removed from the disk yet: %s", error)
            stuck = error
            self._unfinished.append(operation)

    def _take(self) -> tuple[list[Entry], bool]:
        """What waits, at least one entry; and whether more may come."""
        batch: list[Entry] = []
        entry = self._queue.get()
        while entry is not None:
            batch.append(entry)
            if len(batch) == _BATCH or self._queue.empty():
                return batch, True
            entry = self._queue.get()
        return batch, False


def _wake(completions: Sequence[Completion]) -> None:
    for loop in {completion.loop for completion in completions}:
        events = [completion.done for completion in completions if completion.loop == loop]
        # The loop may have ended; then nobody waits.
        with suppress(RuntimeError):
            anyio.from_thread.run_sync(_set, events, token=loop)


def _set(events: Sequence[anyio.Event]) -> None:
    for event in events:
        event.set()
