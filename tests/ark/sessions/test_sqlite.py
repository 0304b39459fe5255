"""Transcripts in a file: through a restart, a kill, damage and a full disk."""

from __future__ import annotations

import os
import sqlite3
import threading
import uuid
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
from ark.sessions.sqlite import SqliteStorage
from ark.sessions.storage import StorageError
from ark.sessions.transcript import Transcript, read_messages

NAMES = [str(uuid.UUID(int=n)) for n in range(1, 4)]


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
