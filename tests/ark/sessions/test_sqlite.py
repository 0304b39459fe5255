"""Transcripts in a file: through a restart, a kill, damage and a full disk."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from asgi_client import running

from ark.config import SessionsConfig
from ark.errors import NotFound
from ark.sessions import sqlite_file
from ark.sessions.service import Hints, Sessions
from ark.sessions.session import Session
from ark.sessions.sqlite import SqliteStorage
from ark.sessions.sqlite_file import SqliteFile
from ark.sessions.storage import StorageError
from ark.sessions.transcript import Continuation, Transcript, read_messages

NAMES = [str(uuid.UUID(int=n)) for n in range(1, 4)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def started(clock: Any, path: Path) -> Callable[..., Any]:
    async def start(**config: Any) -> Sessions:
        sessions = Sessions(SessionsConfig(**config), storage=SqliteStorage(path), clock=clock)
        await sessions.open()
        return sessions

    return start


@pytest.fixture
def say(finish: Callable[..., Transcript], says: Any) -> Callable[..., Any]:
    async def whole(sessions: Sessions, text: str, **which: Any) -> Any:
        history = which.pop("history", [])
        async with await sessions.begin("ann", **which) as turn:
            continuation = turn.resume(read_messages([*history, says(text)]), "m")
            await turn.commit(finish(continuation, text.upper()))
            return turn.session_id, continuation.how

    return whole


def transcripts_of(sessions: Sessions) -> dict[str, Transcript]:
    return {c.key: c.transcript for s in sessions.store._by_age for c in s.conversations.values()}


@pytest.mark.anyio
async def test_a_restart_changes_nothing(started: Any, say: Any, clock: Any) -> None:
    sessions = await started()
    cookie, _ = await say(sessions, "a")
    history = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "A"}]
    await say(sessions, "b", cookie=cookie, history=history)
    await say(sessions, "c", cookie=cookie, history=history)  # a fork
    clock.now += 1
    for text in "xyz":
        await say(sessions, text, stateful=NAMES[0])
        clock.now += 1
    before = sessions.store.describe_all("ann")
    transcripts = transcripts_of(sessions)
    await sessions.close()

    sessions = await started()
    assert sessions.store.describe_all("ann") == before
    assert transcripts_of(sessions) == transcripts
    assert (await say(sessions, "d", cookie=cookie, history=history))[1] == "rewound"
    assert await say(sessions, "d", stateful=NAMES[0]) == (NAMES[0], "continued")
    await sessions.close()


@pytest.mark.anyio
async def test_a_turn_adds_rows_and_rewrites_none(started: Any, say: Any, path: Path) -> None:
    sessions = await started()
    for text in "abc":
        await say(sessions, text, stateful=NAMES[0])
    await sessions.close()
    sessions = await started()
    await say(sessions, "d", stateful=NAMES[0])
    await sessions.close()
    with sqlite3.connect(path) as database:
        rows = database.execute("select number, length(tokens) from parts order by number").fetchall()
    database.close()
    assert rows == [(0, 8), (1, 8), (2, 8), (3, 8)]


@pytest.mark.anyio
async def test_a_deletion_is_on_the_disk_when_it_is_answered(path: Path) -> None:
    """Not soon: the server may be killed behind the answer."""
    blocked = threading.Event()
    async with running(sessions={"path": str(path)}) as client:
        services = client.app.services
        await client.chat("hello", ark_stateful=NAMES[0])
        services.sessions._storage._queue.put((lambda _: blocked.wait(), None))
        answered = []

        async def delete() -> None:
            answered.append((await client.request("DELETE", f"/v1/sessions/{NAMES[0]}")).status)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(delete)
            await anyio.sleep(0.1)
            assert not answered
            blocked.set()
        assert answered == [200]


@pytest.mark.anyio
async def test_deleted_and_expired_sessions_stay_so(started: Any, say: Any, clock: Any, path: Path) -> None:
    sessions = await started()
    for name in NAMES:
        await say(sessions, "a secret", stateful=name)
        clock.now += 700
    sessions.delete("ann", NAMES[1])
    clock.now += 500
    sessions.store.sweep()
    await sessions.close()
    with sqlite3.connect(path) as database:
        assert database.execute("select session from conversations").fetchall() == [(NAMES[2],)]
        assert database.execute("select count(*) from parts").fetchone() == (1,)
    database.close()

    sessions = await started()
    with pytest.raises(NotFound) as error:
        await sessions.begin("ann", stateful=NAMES[0])
    assert error.value.code == "session_expired"
    assert (await say(sessions, "a", stateful=NAMES[1]))[1] == "created"
    # Deleting an expired one frees its name, for good.
    sessions.delete("ann", NAMES[0])
    await sessions.close()
    sessions = await started()
    assert (await say(sessions, "a", stateful=NAMES[0]))[1] == "created"
    await sessions.close()


@pytest.mark.anyio
async def test_only_the_last_expired_ids_are_kept(
    started: Any, say: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "_EXPIRED_IDS", 5)
    sessions = await started(max_sessions=1)
    for _ in range(20):
        await say(sessions, "a")
    await say(sessions, "a", stateful=NAMES[0])
    await say(sessions, "a", stateful=NAMES[1])
    await sessions.close()
    with sqlite3.connect(path) as database:
        assert database.execute("select count(*) from expired").fetchone() == (5,)
    database.close()
    sessions = await started()
    with pytest.raises(NotFound):
        await sessions.begin("ann", stateful=NAMES[0])
    await sessions.close()


@pytest.mark.anyio
async def test_what_expired_while_the_server_was_down_is_expired(started: Any, say: Any, clock: Any) -> None:
    sessions = await started()
    await say(sessions, "a", stateful=NAMES[0])
    await sessions.close()
    clock.now += 1800
    for _ in range(2):
        sessions = await started()
        with pytest.raises(NotFound):
            await sessions.begin("ann", stateful=NAMES[0])
        await sessions.close()


CONTENT = {
    "messages": "update parts set messages = '[{'",
    "tokens": "update parts set tokens = x''",
    "not utf-8": "update conversations set model = cast(x'ff' as text)",
    "another id": f"update sessions set id = 'x' where id = '{NAMES[0]}'",
    "another column": "update sqlite_master set sql = replace(sql, 'seams', 'teams') where name = 'parts'",
    "another table": "update sqlite_master set name = 'bits', tbl_name = 'bits', sql = replace(sql, 'parts', 'bits') "
    "where name = 'parts'",
}
"""What a bad byte may do that SQLite's own check passes over."""


@pytest.mark.parametrize("damage", ["header", "page", *CONTENT])
@pytest.mark.anyio
async def test_a_damaged_file_is_moved_aside(
    started: Any, say: Any, path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = await started()
    for name in NAMES:
        await say(sessions, "a" * 5000, stateful=name)
    await sessions.close()
    if damage in {"header", "page"}:
        with path.open("r+b") as file:
            file.seek(16 if damage == "header" else 4096)
            file.write(b"x" * 8192)
    else:
        with sqlite3.connect(path) as database:
            database.execute("pragma writable_schema = on")
            database.execute(CONTENT[damage])
        database.close()

    sessions = await started()
    assert len(sessions.store) == 0
    assert "damaged" in caplog.text
    aside = [name for name in os.listdir(path.parent) if name.startswith(f"{path.name}.damaged-")]
    assert aside
    assert (await say(sessions, "b", stateful=NAMES[0]))[1] == "created"
    await sessions.close()
    sessions = await started()
    assert len(sessions.store) == 1
    await sessions.close()


@pytest.mark.anyio
@pytest.mark.parametrize("content", [b"My notes.\n", b"\0" * 100_000, b"SQLite format 4\0 and more"])
async def test_a_file_that_is_something_else_is_left_alone(started: Any, path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
    with pytest.raises(StorageError, match="is no SQLite file"):
        await started()
    with path.open("rb") as file:
        assert file.read() == content
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.anyio
async def test_a_file_of_another_version_is_left_alone(started: Any, path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("create table other (x)")
        database.execute("pragma user_version = 99")
    database.close()
    with pytest.raises(StorageError, match="99"):
        await started()
    assert sorted(os.listdir(path.parent)) == [path.name]


@pytest.mark.anyio
async def test_a_file_that_another_server_uses_is_left_alone(started: Any, path: Path) -> None:
    sessions = await started()
    with pytest.raises(StorageError, match="another server process"):
        await started()
    await sessions.close()


@pytest.mark.anyio
async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        await SqliteStorage(tmp_path / "nowhere" / "sessions.db").open()


@pytest.mark.anyio
async def test_a_closed_storage_refuses_turns_instead_of_keeping_them_waiting(started: Any, say: Any) -> None:
    sessions = await started()
    await sessions.close()
    with anyio.fail_after(60):
        await say(sessions, "a", stateful=NAMES[0])
    assert sessions.write_failures == 1


@pytest.mark.anyio
async def test_records_come_back_as_they_were_last_written(clock: Any, path: Path) -> None:
    sessions = Sessions(SessionsConfig(), storage=SqliteStorage(path), clock=clock)
    assert await sessions.open() == {}
    for key, value in (("a", b"1"), ("b", b"2"), ("a", b"\0\xff"), ("c", b"3")):
        await sessions.save_record(key, value)
    sessions.forget_records(["b", "none"])
    await sessions.close()
    again = Sessions(SessionsConfig(), storage=SqliteStorage(path), clock=clock)
    assert await again.open() == {"a": b"\0\xff", "c": b"3"}
    await again.close()


@pytest.mark.anyio
async def test_only_the_server_can_read_the_file(started: Any, path: Path) -> None:
    sessions = await started()
    await sessions.close()
    assert (await anyio.Path(path).stat()).st_mode & 0o777 == 0o600


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


@pytest.mark.anyio
async def test_turns_that_commit_together_are_all_saved(started: Any, say: Any) -> None:
    sessions = await started()
    names = [str(uuid.UUID(int=n)) for n in range(100, 150)]

    async def talk(name: str) -> None:
        for text in "ab":
            await say(sessions, text, stateful=name)

    async with anyio.create_task_group() as tasks:
        for name in names:
            tasks.start_soon(talk, name)
    await sessions.close()
    sessions = await started()
    assert {info.id: info.messages for info in sessions.store.describe_all("ann")} == dict.fromkeys(names, 4)
    await sessions.close()


CHILD = """
import anyio, sys
from ark.config import SessionsConfig
from ark.sessions.transcript import read_message, read_messages
from ark.sessions.service import Sessions
from ark.sessions.sqlite import SqliteStorage
from ark.sessions.transcript import Seam, Transcript, pack_tokens

async def talk(sessions, name):
    number = 0
    while True:
        async with await sessions.begin("ann", stateful=name) as turn:
            continuation = turn.resume(read_messages([{"role": "user", "content": f"{name} {number}"}]), "m")
            messages = (*continuation.messages, read_message({"role": "assistant", "content": f"reply {number}"}))
            seams = () if continuation.transcript is None else continuation.transcript.seams
            seam = Seam(len(messages) - 1, len(messages) - 1, len(messages), True, 0, b"", "")
            await turn.commit(Transcript("m", "f", messages, pack_tokens(range(len(messages))), (*seams, seam)))
        number += 1
        print(name, number, flush=True)

async def main():
    sessions = Sessions(SessionsConfig(), storage=SqliteStorage(sys.argv[1]))
    await sessions.open()
    async with anyio.create_task_group() as tasks:
        for name in sys.argv[2:]:
            tasks.start_soon(talk, sessions, name)

anyio.run(main)
"""


def killed_while_talking(path: Path) -> list[str]:
    """What a server told of its turns until it was killed."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path), *NAMES], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child, child.stdout as output:
        lines = [output.readline() for _ in range(300)]
        child.send_signal(signal.SIGKILL)
        return lines + output.readlines()


@pytest.mark.anyio
async def test_a_kill_in_the_middle_of_commits_loses_nothing_that_was_committed(path: Path) -> None:
    lines = await anyio.to_thread.run_sync(killed_while_talking, path)
    told = dict.fromkeys(NAMES, 0)
    for line in lines:
        if line.endswith("\n"):
            name, number = line.split()
            told[name] = int(number)
    assert sum(told.values()) >= 300

    sessions = Sessions(SessionsConfig(), storage=SqliteStorage(path))
    await sessions.open()
    for session in sessions.store._by_age:
        (conversation,) = session.conversations.values()
        transcript = conversation.transcript
        turns = len(transcript.messages) // 2
        # A turn may have been written whose commit was not told yet.
        assert told[session.id] <= turns <= told[session.id] + 1
        assert transcript.length == len(transcript.messages) == 2 * turns
        assert [m.data["content"] for m in transcript.messages[::2]] == [f"{session.id} {n}" for n in range(turns)]
    assert len(sessions.store) == 3
    await sessions.close()


@pytest.mark.anyio
async def test_a_conversation_is_found_by_its_messages_after_a_restart(
    started: Any, finish: Any, says: Any, path: Path
) -> None:
    async def say(sessions: Sessions, *texts: str, **hints: Any) -> tuple[str, Any]:
        roles = ("user", "assistant")
        sent = read_messages({"role": roles[n % 2], "content": text} for n, text in enumerate(texts))
        async with await sessions.begin("ann", hints=Hints(model="m", messages=sent, **hints)) as turn:
            continuation = turn.resume(sent, "m")
            await turn.commit(finish(continuation, texts[-1].upper()))
            return continuation.how, turn.found

    sessions = await started()
    await say(sessions, "a", name="one")
    await sessions.close()
    sessions = await started()
    tools = [{"type": "function"}]
    assert await say(sessions, "a", "A", "b", tools=tools) == ("created", "new")
    assert await say(sessions, "a", "A", "b", name="one", tools=tools) == ("continued", "name")
    await sessions.close()
    # A file from before conversations were found so has no such table.
    with sqlite3.connect(path) as database:
        database.execute("drop table scopes")
    database.close()
    sessions = await started()
    assert await say(sessions, "a", "A", "b", "B", "c", tools=tools) == ("created", "new")
    assert await say(sessions, "a", "A", "b", "B", "c", "C", "d", tools=tools) == ("continued", "content")
    await sessions.close()
