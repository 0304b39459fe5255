"""Transcripts in a file on a disk that is full or broken for a while."""

from __future__ import annotations

import sqlite3
import uuid
from pathlib import Path
from typing import Any

import pytest

from ark.sessions.session import Session
from ark.sessions.sqlite_file import SqliteFile
from ark.sessions.transcript import Continuation, Transcript, read_messages

NAMES = [str(uuid.UUID(int=n)) for n in range(1, 4)]


@pytest.mark.anyio
async def test_after_a_full_disk_the_whole_transcript_is_written(
    started: Any, say: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = await started()
    await say(sessions, "a", stateful=NAMES[0])
    await say(sessions, "a", stateful=NAMES[1])
    database = sessions._storage._file._connection
    (pages,) = database.execute("pragma page_count").fetchone()
    database.execute(f"pragma max_page_count = {pages}")
    assert await say(sessions, "b" * 50_000, stateful=NAMES[0]) == (NAMES[0], "continued")
    assert sessions.write_failures == 1
    assert "full" in caplog.text
    database.execute("pragma max_page_count = 100000")
    await say(sessions, "c", stateful=NAMES[0])
    expected = sessions.store.describe_all("ann")
    await sessions.close()
    sessions = await started()
    assert sessions.store.describe_all("ann") == expected
    await sessions.close()


@pytest.mark.anyio
async def test_what_could_not_be_forgotten_is_forgotten_later(
    started: Any, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = await started()
    await say(sessions, "a", stateful=NAMES[0])
    right = SqliteFile.transaction

    def full(self: SqliteFile, work: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(SqliteFile, "transaction", full)
    sessions.delete("ann", NAMES[0])
    # A new session of the same name, written behind it, must not go with it.
    await say(sessions, "b", stateful=NAMES[0])
    monkeypatch.setattr(SqliteFile, "transaction", right)
    await say(sessions, "c", stateful=NAMES[0])
    expected = sessions.store.describe("ann", NAMES[0])
    assert expected.messages == 4
    await sessions.close()
    sessions = await started()
    assert sessions.store.describe("ann", NAMES[0]) == expected
    await sessions.close()


@pytest.mark.anyio
async def test_nothing_is_written_behind_what_could_not_be_forgotten(
    started: Any, say: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = await started()
    await say(sessions, "a", stateful=NAMES[0])
    right, broken = SqliteFile.forget_session, [True]

    def forget(self: SqliteFile, *args: Any, **kwargs: Any) -> None:
        if broken[0]:
            raise sqlite3.OperationalError("disk I/O error")
        right(self, *args, **kwargs)

    monkeypatch.setattr(SqliteFile, "forget_session", forget)
    sessions.delete("ann", NAMES[0])
    await say(sessions, "b", stateful=NAMES[0])
    assert sessions.write_failures == 1
    broken[0] = False
    await say(sessions, "c", stateful=NAMES[0])
    expected = sessions.store.describe("ann", NAMES[0])
    assert expected.messages == 4
    await sessions.close()
    sessions = await started()
    assert sessions.store.describe("ann", NAMES[0]) == expected
    await sessions.close()


def test_after_a_transaction_that_failed_nothing_counts_as_written(path: Path, finish: Any, says: Any) -> None:
    def save(transcript: Transcript) -> Any:
        session = Session("ann", NAMES[0], issued=False, trusted=True, created=1, used=1)
        return lambda file: file.save(session, "k", transcript)

    def fail(file: SqliteFile) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    first = finish(Continuation(read_messages([says("a")])), "A")
    second = finish(Continuation((*first.messages, *read_messages([says("b")], first.messages[-1])), first, 2), "B")
    file = SqliteFile(path)
    file.open()
    with pytest.raises(sqlite3.OperationalError):
        file.transaction([save(first), fail])
    file.transaction([save(second)])
    file.close()
    (session,) = file.open().sessions
    file.close()
    assert session.conversations["k"].transcript == second
