"""Sessions as endpoints use them: the store, with waiting for a busy session and writing to disk around it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from typing import Any, Self

import anyio
import msgspec

from ark.concurrency import run_in_thread_if_large
from ark.config import SessionsConfig
from ark.errors import BadRequest, Conflict, NotFound
from ark.sessions.matching import Found, Scope
from ark.sessions.session import COOKIE, SCOPE_BYTES, parse_session_id
from ark.sessions.storage import StorageError, TranscriptStorage
from ark.sessions.store import Evicted, Lease, SessionStore
from ark.sessions.transcript import Continuation, Message, Transcript

log = logging.getLogger("ark.sessions")

SessionName = tuple[str, str]
"""(owner, session id); the session need not exist yet."""

_encode = msgspec.json.Encoder(order="sorted").encode


class Hints(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says of its conversation beside a cookie and ``ark_stateful``."""

    model: str
    """The served name."""
    messages: tuple[Message, ...]
    tools: Sequence[Mapping[str, Any]] = ()
    """As chat templates read them."""
    name: str | None = None
    """The client's own of the session. It may stand for several conversations."""
    address: str = ""
    """The client's, which tells clients apart where there are no keys."""
    size: int = 0
    """Bytes of the request."""


class Sessions:
    """All sessions of a server."""

    def __init__(
        self,
        config: SessionsConfig,
        *,
        storage: TranscriptStorage | None = None,
        clock: Callable[[], float] = time.time,
        on_evict: Callable[[Evicted], None] = lambda _: None,
    ) -> None:
        """`on_evict` gets what the backends may release. It is called on the event loop, and must not call back."""
        self.config = config
        self._storage = storage
        self._on_evict = on_evict
        self.store = SessionStore(config, clock=clock, on_evict=self._evicted)
        """Asked directly for what neither waits nor writes."""
        self._locks = SessionLocks()
        self.rebuilds = 0
        """Turns whose state had been dropped by the backend and was computed again; counted by whoever runs them."""
        self.found: Counter[Found] = Counter()
        """Turns by what their conversation was found."""
        self.write_failures = 0
        """Turns that could not be written to disk; they are kept in memory."""

    async def open(self) -> dict[str, bytes]:
        """Read what was saved, and return its records. Raises StorageError when the storage cannot be used."""
        if self._storage is None:
            return {}
        saved = await self._storage.open()
        self.store.restore(saved.sessions, saved.expired)
        if saved.sessions:
            log.info("%d sessions restored", len(self.store))
        return saved.records

    async def close(self) -> None:
        """Finish writing."""
        if self._storage is not None:
            await self._storage.close()

    async def begin(
        self, owner: str, *, cookie: str | None = None, stateful: str | bool | None = None, hints: Hints | None = None
    ) -> SessionTurn:
        """A turn of the session that a request asks for. Close it whatever happens; `async with` does.

        `cookie` is the value of the request's session cookie, `stateful` of its ``ark_stateful``. A conversation that
        neither names is looked for by the hints. Raises BadRequest for an id that is no UUID and where the step is
        switched off, NotFound `session_expired`, and Conflict `session_busy` after waiting for the turn before.
        """
        config = self.config
        if (stateful and not (config.enabled and config.explicit)) or (stateful is True and not config.cookie):
            raise BadRequest("Sessions are switched off.", param="ark_stateful", code="sessions_disabled")
        if not config.enabled or stateful is False:
            return SessionTurn(self, None)
        cookie = cookie if config.cookie else None
        if stateful is None:
            messages: Sequence[Message] = ()
            scopes: Sequence[Scope] = ()
            if hints is not None:
                read = partial(read_scopes, config.match, owner, hints)
                messages, scopes = hints.messages, await run_in_thread_if_large(hints.size, read)
            lease = self.store.lease_cookie(owner, cookie, messages=messages, scopes=scopes)
            return SessionTurn(self, lease, by_cookie=config.cookie)
        named = read_stateful(stateful) if isinstance(stateful, str) else None
        session_id = named or parse_session_id(cookie or "")
        locked = (owner, session_id) if session_id is not None else None
        if locked is not None:
            await self._locks.acquire(locked, config.busy_wait)
        try:
            lease = self._lease_append(owner, named, cookie)
        except BaseException:
            if locked is not None:
                self._locks.release(locked)
            raise
        return SessionTurn(self, lease, by_cookie=named is None, locked=locked)

    def delete(self, owner: str, session_id: str) -> bool:
        """Forget a session, on disk too; a turn in progress keeps nothing. Its id may then begin a new session.

        False when the owner has no such session, live or expired.
        """
        known = self.store.delete(owner, session_id)
        if known and self._storage is not None:
            self._storage.forget_session(owner, session_id, expired=False)
        return known

    async def flush(self) -> None:
        """Wait until what was deleted would not come back with the next start. What cannot be removed now is tried
        again, and the log says so."""
        if self._storage is not None:
            with suppress(StorageError):
                await self._storage.flush()

    async def save_record(self, key: str, value: bytes) -> None:
        """Write a record where there is a storage. A failure is logged and counted, as a turn's."""
        if self._storage is None:
            return
        try:
            with anyio.CancelScope(shield=True):
                await self._storage.save_record(key, value)
        except StorageError as error:
            self.write_failures += 1
            log.error("the record %s was not written to disk: %s", key, error)

    def forget_records(self, keys: Sequence[str]) -> None:
        """Drop records soon."""
        if self._storage is not None:
            self._storage.forget_records(keys)

    def _lease_append(self, owner: str, named: str | None, cookie: str | None) -> Lease:
        if named is not None:
            return self.store.lease_named(owner, named)
        try:
            return self.store.lease_cookie(owner, cookie, "append")
        except NotFound as error:
            # A cookie jar would send the expired id for ever.
            error.headers["set-cookie"] = session_cookie(None, self.config)
            raise

    def _evicted(self, event: Evicted) -> None:
        if self._storage is not None:
            if event.whole:
                self._storage.forget_session(event.owner, event.session, expired=event.cause != "deleted")
            else:
                self._storage.forget_conversations([key for _, key in event.released])
        self._on_evict(event)

    async def _save(self, lease: Lease, transcript: Transcript) -> None:
        session = lease.session
        # A transcript over the byte limit is evicted as soon as it is there.
        if self._storage is None or session.deleted or lease.key not in session.conversations:
            return
        try:
            # Even if the client leaves now the turn is written, or the failure logged and counted.
            with anyio.CancelScope(shield=True):
                scopes = session.conversations[lease.key].scopes
                await self._storage.save(replace(session), lease.key, transcript, scopes)
        except StorageError as error:
            self.write_failures += 1
            log.error("a turn of session %s was not written to disk: %s", session.id, error)


class SessionTurn:
    """One request's use of a session: everything it does is kept by `commit`, or nothing is."""

    def __init__(
        self,
        sessions: Sessions,
        lease: Lease | None,
        *,
        by_cookie: bool = False,
        locked: SessionName | None = None,
    ) -> None:
        self._sessions = sessions
        self._lease = lease
        self._by_cookie = by_cookie
        self._locked = locked

    @property
    def session_id(self) -> str | None:
        """None where the request is served statelessly."""
        return None if self._lease is None else self._lease.session.id

    @property
    def set_cookie(self) -> str | None:
        """The ``set-cookie`` header of the reply; None where the session is not the cookie's."""
        if self._lease is None or not self._by_cookie:
            return None
        return session_cookie(self._lease.session.id, self._sessions.config)

    @property
    def found(self) -> Found | None:
        """By what the conversation was found, known after `resume`; None where the request is served statelessly."""
        return None if self._lease is None else self._lease.found

    @property
    def key(self) -> str | None:
        """What the job calls its session, so that the backend keeps its state; known after `resume`."""
        return None if self._lease is None else self._lease.key

    def resume(self, messages: tuple[Message, ...], model: str) -> Continuation:
        """What the request's messages continue; once.

        Raises BadRequest `session_system_mismatch` and `session_model_mismatch`.
        """
        if self._lease is None:
            return Continuation(messages, how="stateless")
        continuation = self._sessions.store.resume(self._lease, messages, model)
        self._sessions.found[self._lease.found] += 1
        return continuation

    async def commit(self, transcript: Transcript) -> bool:
        """Keep the turn, and end it. With a storage, returns when the turn would survive the process.

        False when nothing was kept: the request is stateless, or its session was deleted meanwhile. A turn that
        cannot be written is kept in memory, logged and counted; it is no error of the request.
        """
        try:
            if self._lease is None:
                return False
            kept = self._sessions.store.commit(self._lease, transcript)
            await self._sessions._save(self._lease, transcript)
            return kept
        finally:
            self.close()

    def close(self) -> None:
        """End the turn; if it was not committed, the session is as before it. May be repeated."""
        if self._lease is not None:
            self._sessions.store.end(self._lease)
        locked, self._locked = self._locked, None
        if locked is not None:
            self._sessions._locks.release(locked)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


class SessionLocks:
    """One turn at a time for each session, in the order in which they came."""

    def __init__(self) -> None:
        self._semaphores: dict[SessionName, anyio.Semaphore] = {}
        self._users: dict[SessionName, int] = {}

    @asynccontextmanager
    async def hold(self, name: SessionName, wait: float) -> AsyncGenerator[None, None]:
        """The block is the only one of its name. Raises Conflict `session_busy` after `wait` seconds."""
        await self.acquire(name, wait)
        try:
            yield
        finally:
            self.release(name)

    async def acquire(self, name: SessionName, wait: float) -> None:
        """Raises Conflict `session_busy` after `wait` seconds."""
        # A semaphore and not a lock: a stream may end in another task than the one that began it.
        semaphore = self._semaphores.setdefault(name, anyio.Semaphore(1, max_value=1))
        self._users[name] = self._users.get(name, 0) + 1
        acquired = False
        try:
            try:
                semaphore.acquire_nowait()
                acquired = True
            except anyio.WouldBlock:
                with anyio.move_on_after(wait):
                    await semaphore.acquire()
                    acquired = True
        finally:
            if not acquired:
                self._drop(name)
        if not acquired:
            raise Conflict(f"The session {name[1]} is busy with another turn.", code="session_busy")

    def release(self, name: SessionName) -> None:
        self._semaphores[name].release()
        self._drop(name)

    def _drop(self, name: SessionName) -> None:
        self._users[name] -= 1
        if not self._users[name]:
            del self._users[name], self._semaphores[name]


def read_scopes(match: str, owner: str, hints: Hints) -> list[Scope]:
    """Where the conversation may be found, the most telling first. `match` is the field of the configuration."""
    # Only where there are no keys an owner has no name.
    who = ["" if owner else hints.address, hints.model]
    scopes: list[tuple[Found, Any]] = []
    if match != "cookie" and hints.name:
        scopes.append(("name", hints.name))
    if match == "content":
        scopes.append(("content", hints.tools))
    return [(found, blake2b(_encode([found, *who, what]), digest_size=SCOPE_BYTES).digest()) for found, what in scopes]


def read_stateful(value: str) -> str:
    """The session that ``ark_stateful`` names. Raises BadRequest when it is no UUID."""
    found = parse_session_id(value)
    if found is None:
        raise BadRequest(
            "ark_stateful is true, false or the UUID of a session, such as '3f2b8c1e-5d47-4a90-b6de-0c9a1f7e2d35'.",
            param="ark_stateful",
            code="invalid_session_id",
        )
    return found


def session_cookie(session_id: str | None, config: SessionsConfig) -> str:
    """The value of the ``set-cookie`` header that names a session; None makes the client forget its cookie."""
    max_age = 0 if session_id is None else int(config.max_age)
    domain = "" if config.cookie_domain is None else f"; Domain={config.cookie_domain}"
    flags = "; Secure" * config.cookie_secure + "; HttpOnly" * config.cookie_http_only
    where = f"Path={config.cookie_path}{domain}; SameSite={config.cookie_same_site}"
    return f"{COOKIE}={session_id or ''}; Max-Age={max_age}; {where}{flags}"
