"""The SQLite file: its tables, and one blocking method for each thing that is asked of it."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from ark.sessions.session import SCOPE_BYTES, Conversation, Session
from ark.sessions.storage import Saved, StorageError
from ark.sessions.transcript import TOKEN_BYTES, Seam, Transcript, read_messages

log = logging.getLogger("ark.sessions")

VERSION = 1
_MAGIC = b"SQLite format 3\0"
"""Every database begins with it."""
_EXPIRED_IDS = 100_000
"""Ids of expired sessions kept: clients without a cookie jar leave one with every request."""
_NO_DAMAGE = {
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_READONLY,
}
"""Codes that blame the disk or the moment. Any other error in reading is damage to the file: one bad byte may rename a
column, or leave text that is not UTF-8, for which there is no code."""

_SCHEMA = """
create table sessions (
    owner text not null, id text not null, issued integer not null, trusted integer not null,
    created real not null, used real not null, primary key (owner, id)
) without rowid;
create table conversations (
    key text primary key, owner text not null, session text not null, model text not null,
    fingerprint text not null, used real not null,
    foreign key (owner, session) references sessions (owner, id) on delete cascade
) without rowid;
create index conversations_of_session on conversations (owner, session);
-- The parts of a conversation, joined, are its transcript: usually there is one for each turn.
create table parts (
    conversation text not null references conversations (key) on delete cascade, number integer not null,
    messages blob not null, tokens blob not null, seams blob not null, primary key (conversation, number)
);
create table expired (
    owner text not null, id text not null, number integer primary key, unique (owner, id)
);
"""
_LATER = (
    "create table if not exists records (key text primary key, value blob not null) without rowid",
    "create table if not exists scopes (conversation text primary key, digests blob not null, "
    "foreign key (conversation) references conversations (key) on delete cascade) without rowid",
)
"""By themselves, for files from before there were any."""

_encode = msgspec.json.Encoder().encode
_messages = msgspec.json.Decoder(list[dict[str, Any]])
_seams = msgspec.json.Decoder(list[Seam])


class _Damaged(Exception):
    """What the file holds is not what was written to it."""


class SqliteFile:
    """An open file. Used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        # What the file has of each conversation, and in how many parts: a turn writes only what it adds.
        self._written: dict[str, tuple[Transcript, int]] = {}

    def open(self) -> Saved:
        """Open or create the file and read it all. A damaged one is moved aside.

        Raises StorageError when the file cannot be used, and another one must not take its place.
        """
        try:
            return self._open()
        except _Damaged as error:
            self.close()
            aside = self._move_aside()
            log.error("the sessions in %s are damaged (%s): moved to %s, starting without", self._path, error, aside)
        try:
            return self._open()
        except _Damaged as error:
            raise StorageError(f"{self._path}: {error}") from error

    def close(self) -> None:
        """Close the file. May be repeated."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def transaction(self, operations: Iterable[Callable[[SqliteFile], None]]) -> None:
        """Do all of them or none. Raises sqlite3.Error."""
        database = self._database
        database.execute("begin immediate")
        try:
            for operation in operations:
                operation(self)
            database.execute("commit")
        except BaseException:
            # What the file holds of the conversations is no longer known: they are written whole next time.
            self._written.clear()
            if database.in_transaction:
                database.execute("rollback")
            raise

    def save(self, session: Session, key: str, transcript: Transcript, scopes: tuple[bytes, ...] = ()) -> None:
        """Write what a turn added to the transcript, or all of it if the turn changed what was there."""
        database = self._database
        database.execute("delete from expired where owner = ? and id = ?", (session.owner, session.id))
        database.execute(
            "insert into sessions values (?, ?, ?, ?, ?, ?) on conflict do update set trusted = excluded.trusted, "
            "used = excluded.used, created = excluded.created, issued = excluded.issued",
            (session.owner, session.id, session.issued, session.trusted, session.created, session.used),
        )
        database.execute(
            "insert into conversations values (?, ?, ?, ?, ?, ?) on conflict do update set used = excluded.used, "
            "model = excluded.model, fingerprint = excluded.fingerprint",
            (key, session.owner, session.id, transcript.model, transcript.fingerprint, session.used),
        )
        if scopes:
            database.execute("insert or replace into scopes values (?, ?)", (key, b"".join(scopes)))
        before, parts = self._written.get(key, (None, 0))
        if before is None or not _extends(transcript, before):
            database.execute("delete from parts where conversation = ?", (key,))
            before, parts = None, 0
        tokens, messages, seams = (
            (0, 0, 0) if before is None else (len(before.tokens), len(before.messages), len(before.seams))
        )
        database.execute(
            "insert into parts values (?, ?, ?, ?, ?)",
            (
                key,
                parts,
                _encode([message.data for message in transcript.messages[messages:]]),
                transcript.tokens[tokens:],
                _encode(transcript.seams[seams:]),
            ),
        )
        self._written[key] = (transcript, parts + 1)

    def forget_session(self, owner: str, session: str, expired: bool) -> None:
        """Drop a session and its conversations; `expired` remembers its id."""
        database = self._database
        keys = database.execute("select key from conversations where owner = ? and session = ?", (owner, session))
        for (key,) in keys:
            self._written.pop(key, None)
        database.execute("delete from sessions where owner = ? and id = ?", (owner, session))
        database.execute("delete from expired where owner = ? and id = ?", (owner, session))
        if expired:
            number = database.execute("insert into expired (owner, id) values (?, ?)", (owner, session)).lastrowid
            database.execute("delete from expired where number <= ? - ?", (number, _EXPIRED_IDS))

    def forget_conversations(self, keys: Sequence[str]) -> None:
        """Drop conversations."""
        for key in keys:
            self._written.pop(key, None)
            self._database.execute("delete from conversations where key = ?", (key,))

    def save_record(self, key: str, value: bytes) -> None:
        """Write a record, in the place of an earlier one."""
        self._database.execute("insert or replace into records values (?, ?)", (key, value))

    def forget_records(self, keys: Sequence[str]) -> None:
        """Drop records."""
        self._database.executemany("delete from records where key = ?", [(key,) for key in keys])

    @property
    def _database(self) -> sqlite3.Connection:
        if self._connection is None:
            raise sqlite3.ProgrammingError("the file is closed")
        return self._connection

    def _open(self) -> Saved:
        self._written.clear()
        try:
            self._connect()
            return self._load()
        except sqlite3.Error as error:
            # The lower byte of an extended code is the code.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _NO_DAMAGE:
                raise _Damaged(str(error)) from error
            self.close()
            raise StorageError(f"{self._path} cannot be used: {error}{_hint(error)}") from error
        except (LookupError, TypeError, ValueError) as error:
            raise _Damaged(f"{type(error).__name__}: {error}") from error
        except OSError as error:
            raise StorageError(f"{self._path} cannot be used: {error.strerror}") from error
        except StorageError:
            self.close()
            raise

    def _connect(self) -> None:
        # The conversations of others are in it: readable by the server's own user only.
        with open(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "rb") as file:
            begins = file.read(len(_MAGIC))
        if begins not in (b"", _MAGIC):
            # Something else of the operator's, by a slip in the configuration: it is not ARK's to move.
            raise StorageError(f"{self._path} is no SQLite file; move it away or set another sessions.path")
        self._connection = sqlite3.connect(self._path, timeout=1.0, isolation_level=None, check_same_thread=False)
        database = self._connection
        # Exclusive before write-ahead: then no other process can write, and no shared memory is needed.
        database.execute("pragma locking_mode = exclusive")
        database.execute("pragma journal_mode = wal")
        database.execute("pragma synchronous = normal")
        database.execute("pragma foreign_keys = on")
        database.execute("begin immediate")
        (version,) = database.execute("pragma user_version").fetchone()
        (tables,) = database.execute("select count(*) from sqlite_master").fetchone()
        if version == 0 and tables == 0:
            for statement in _SCHEMA.split(";"):
                database.execute(statement)
            database.execute(f"pragma user_version = {VERSION}")
        elif version != VERSION:
            raise StorageError(
                f"{self._path} was not written by this version of ARK (schema {version}, not {VERSION}); "
                "move it away or set another sessions.path"
            )
        for statement in _LATER:
            database.execute(statement)
        database.execute("commit")
        (health,) = database.execute("pragma quick_check(1)").fetchone()
        if health != "ok":
            raise _Damaged(health)

    def _load(self) -> Saved:
        database = self._database
        sessions: dict[tuple[str, str], Session] = {}
        for owner, name, issued, trusted, created, used in database.execute("select * from sessions"):
            sessions[owner, name] = Session(
                owner, name, issued=bool(issued), trusted=bool(trusted), created=created, used=used
            )
        parts: dict[str, list[tuple[bytes, bytes, bytes]]] = {}
        rows = "select conversation, messages, tokens, seams from parts order by conversation, number"
        for key, *part in database.execute(rows):
            parts.setdefault(key, []).append((part[0], part[1], part[2]))
        scopes = dict(database.execute("select conversation, digests from scopes"))
        rows = "select key, owner, session, model, fingerprint from conversations order by used"
        for key, owner, name, model, fingerprint in database.execute(rows):
            transcript = _join(model, fingerprint, parts.get(key, []))
            session = sessions[owner, name]
            digests = scopes.get(key, b"")
            found = tuple(digests[at : at + SCOPE_BYTES] for at in range(0, len(digests), SCOPE_BYTES))
            session.conversations[key] = Conversation(key, transcript, session, found)
            session.size += transcript.size
            self._written[key] = (transcript, len(parts[key]))
        expired = database.execute("select owner, id from expired order by number").fetchall()
        records = dict(database.execute("select key, value from records"))
        return Saved(list(sessions.values()), expired, records)

    def _move_aside(self) -> Path:
        stamp = int(time.time())
        aside = self._path.with_name(f"{self._path.name}.damaged-{stamp}")
        # With its log beside it, what can be saved of the file can still be saved.
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.replace(f"{self._path}{suffix}", f"{aside}{suffix}")
        return aside


def _join(model: str, fingerprint: str, parts: Sequence[tuple[bytes, bytes, bytes]]) -> Transcript:
    if not parts:
        raise _Damaged("a conversation is empty")
    try:
        messages = read_messages(data for part in parts for data in _messages.decode(part[0]))
        seams = [seam for part in parts for seam in _seams.decode(part[2])]
    except (msgspec.DecodeError, ValueError) as error:
        raise _Damaged(str(error)) from error
    tokens = b"".join(part[1] for part in parts)
    ends = [seam.end for seam in seams]
    if len(tokens) % TOKEN_BYTES or ends != sorted(ends) or (ends and ends[-1] * TOKEN_BYTES > len(tokens)):
        raise _Damaged("the tokens of a conversation do not fit its replies")
    return Transcript(model, fingerprint, messages, tokens, tuple(seams))


def _extends(transcript: Transcript, before: Transcript) -> bool:
    """Everything of `before` is the beginning of `transcript`."""
    return (
        transcript.fingerprint == before.fingerprint
        and transcript.tokens.startswith(before.tokens)
        and transcript.messages[: len(before.messages)] == before.messages
        and transcript.seams[: len(before.seams)] == before.seams
    )


def _hint(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return "; another server process has it open" if code == sqlite3.SQLITE_BUSY else ""
