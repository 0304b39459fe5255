"""The session store: which sessions are kept, for how long, and which go when there are too many.

Pure: it waits for nothing, opens no file, and is given its clock, which is wall-clock seconds because ages live through
a restart. Every operation costs amortised constant time in the number of sessions.
"""

from __future__ import annotations

import secrets
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import dropwhile, islice
from typing import Literal

from ark.config import SessionsConfig
from ark.errors import Conflict, NotFound, invalid_value
from ark.sessions.matching import Found, Owner, Scope, append_to_conversation, match_conversation
from ark.sessions.session import Conversation, ExpiredIds, Mode, Session, SessionInfo, parse_session_id
from ark.sessions.transcript import Continuation, Message, Transcript

Cause = Literal["idle", "age", "count", "bytes", "conversations", "deleted"]


@dataclass(frozen=True)
class Evicted:
    """A session, or some conversations of one, that the store no longer has."""

    owner: str
    session: str
    cause: Cause
    released: tuple[tuple[str, str], ...]
    """(model, key) of each conversation whose state the backend may forget."""
    whole: bool
    """The session itself was dropped, not only these conversations."""


@dataclass(eq=False)
class Lease:
    """A turn in progress: holds its session, until `SessionStore.end`."""

    session: Session
    mode: Mode
    found: Found = "cookie"
    """By what the session was found; after `resume`, the conversation."""
    scopes: Sequence[Scope] = ()
    key: str = ""
    """Names the state that the turn continues and leaves behind in the backend; empty until `resume`."""
    model: str = ""
    conversation: Conversation | None = None
    """The conversation that the turn replaces; None when it makes a new one."""
    ended: bool = False


class SessionStore:
    """Sessions by owner and id."""

    def __init__(
        self,
        config: SessionsConfig,
        *,
        clock: Callable[[], float],
        on_evict: Callable[[Evicted], None] = lambda _: None,
    ) -> None:
        """`on_evict` is called while an operation runs, and must not call the store."""
        self._config = config
        self._clock = clock
        self._on_evict = on_evict
        self._owners: dict[str, Owner] = {}
        self._by_age: OrderedDict[Session, None] = OrderedDict()
        # Sessions without a turn in progress, least recently used first.
        self._idle: OrderedDict[Session, None] = OrderedDict()
        self._expired = ExpiredIds(config.max_sessions)
        self.size = 0
        """Bytes of all transcripts."""

    def __len__(self) -> int:
        return len(self._by_age)

    # Finding and making sessions. Each returns a lease, so that nothing evicts what was just found.

    def lease_cookie(
        self,
        owner: str,
        cookie: str | None,
        mode: Mode = "match",
        *,
        messages: Sequence[Message] = (),
        scopes: Sequence[Scope] = (),
    ) -> Lease:
        """The session that a cookie names, else that of a conversation which the messages continue in one of the
        scopes, else a fresh one under a new id.

        An id that ARK did not issue to this owner is not adopted. In append mode an expired session raises NotFound
        `session_expired`, because the messages that it held are not in the request, and another turn in append mode
        raises Conflict `session_busy`.
        """
        self.sweep()
        session_id = parse_session_id(cookie) if cookie is not None else None
        found: Found = "cookie"
        session = self._find(owner, session_id)
        if mode == "append" and session_id is not None and session is None:
            self._refuse_expired(owner, session_id)
        if (session is None or not session.issued) and owner in self._owners:
            found, conversation = self._owners[owner].find(scopes, messages)
            session = None if conversation is None else conversation.session
        if session is None:
            return self._lease(self._add(owner, str(uuid.uuid4()), issued=True), mode, "new", scopes)
        return self._lease(session, mode, found, scopes, back=True)

    def lease_named(self, owner: str, session_id: str) -> Lease:
        """The owner's session of that name, made on first use.

        Raises NotFound `session_expired`, and Conflict `session_busy` during another turn in append mode.
        """
        self.sweep()
        session = self._find(owner, session_id)
        if session is None:
            self._refuse_expired(owner, session_id)
            session = self._add(owner, session_id, issued=False)
        return self._lease(session, "append", "explicit", back=True)

    def describe(self, owner: str, session_id: str) -> SessionInfo:
        """One session of the owner. Raises NotFound, `session_expired` or `session_not_found`."""
        self.sweep()
        session = self._find(owner, session_id)
        if session is None:
            self._refuse_expired(owner, session_id)
            raise NotFound(f"There is no session '{session_id}'.", code="session_not_found")
        return session.describe(self._config)

    def describe_all(self, owner: str, *, limit: int | None = None, after: str | None = None) -> list[SessionInfo]:
        """The owner's sessions, the newest first: `limit` of them behind the session `after`. Raises BadRequest when
        there is no such session."""
        self.sweep()
        mine = self._owners[owner].sessions if owner in self._owners else {}
        if after is not None and after not in mine:
            raise invalid_value("after", "there is no such session, or no longer.")
        names = reversed(mine) if after is None else dropwhile(lambda name: name != after, reversed(mine))
        start = int(after is not None)
        names = islice(names, start, None if limit is None else start + limit)
        return [mine[name].describe(self._config) for name in names]

    def delete(self, owner: str, session_id: str) -> bool:
        """Forget a session; a turn in progress will commit nothing. Its id is free for a new one afterwards.

        An expired session's id becomes free too. False when the owner has neither.
        """
        self.sweep()
        known = self._expired.discard(owner, session_id)
        if (session := self._find(owner, session_id)) is not None:
            self._evict(session, "deleted")
        return known or session is not None

    # A turn.

    def resume(self, lease: Lease, messages: tuple[Message, ...], model: str) -> Continuation:
        """What the request's messages continue; once in a lease. Raises BadRequest when they cannot."""
        if lease.ended or lease.key:
            raise RuntimeError("a turn resumes once, while it runs")
        session = lease.session
        if lease.mode == "match":
            mine = reversed(session.conversations.values())
            continuation, conversation = match_conversation(mine, messages, model)
            found, other = self._owners.get(session.owner, Owner()).find(lease.scopes, messages)
            if other is not None and other.session is not session:
                # A cookie's session may be newer than the conversation.
                elsewhere, _ = match_conversation([other], messages, model)
                if elsewhere.replies > continuation.replies:
                    continuation, conversation, lease.found = elsewhere, other, found
            if conversation is None:
                lease.found = "new"
        else:
            continuation, conversation = append_to_conversation(session, messages, model)
        lease.model = model
        if (
            conversation is None
            or conversation.running
            or conversation.session is not session
            or continuation.how == "rewound"
        ):
            lease.key = secrets.token_hex(16)
        else:
            lease.key, lease.conversation = conversation.key, conversation
            conversation.running = True
        return continuation

    def commit(self, lease: Lease, transcript: Transcript) -> bool:
        """Make the turn's transcript the conversation's, and end the lease.

        False when the session was deleted meanwhile: then nothing is kept.
        """
        if lease.ended or not lease.key:
            raise RuntimeError("a turn commits once, after it was resumed")
        session, conversation = lease.session, lease.conversation
        kept = not session.deleted
        if kept:
            owner = self._owners[session.owner]
            if conversation is None:
                conversation = Conversation(lease.key, transcript, session)
                self._grow(session, transcript.size)
            else:
                owner.displace(conversation)
                self._grow(session, transcript.size - conversation.transcript.size)
                conversation.transcript = transcript
            if lease.mode == "match":
                conversation.scopes = tuple(scope for _, scope in lease.scopes)
            owner.place(conversation)
            session.conversations[lease.key] = conversation
            session.conversations.move_to_end(lease.key)
        self.end(lease)
        return kept

    def end(self, lease: Lease) -> None:
        """The turn is over; without a commit before it, the session is as if it had not been. May be repeated."""
        if lease.ended:
            return
        lease.ended = True
        session = lease.session
        session.turns -= 1
        if lease.mode == "append":
            session.appending = False
        if lease.conversation is not None:
            lease.conversation.running = False
        if session.deleted:
            if lease.key:
                self._release(session, "deleted", [(lease.model, lease.key)])
            return
        self._limit_conversations(session)
        session.used = self._clock()
        if session.turns == 0 and not session.conversations:
            # Its first turn failed: the session is as before it, not there.
            self._remove(session)
        elif session.turns == 0:
            self._park(session)
        self._limit()

    # Limits.

    def sweep(self) -> None:
        """Expire what is too old. Every operation does it by itself; a timer may, to free memory of an idle server."""
        now = self._clock()
        while self._idle and now - (first := next(iter(self._idle))).used >= self._config.idle_timeout:
            self._evict(first, "idle")
        aged: list[Session] = []
        for session in self._by_age:
            if now - session.created < self._config.max_age:
                break
            if session.turns == 0:
                aged.append(session)
        for session in aged:
            self._evict(session, "age")

    def restore(self, sessions: list[Session], expired: list[tuple[str, str]]) -> None:
        """Take over what another process has saved, before the first operation."""
        for session in sorted(sessions, key=lambda session: session.created):
            mine = self._owners.setdefault(session.owner, Owner())
            mine.sessions[session.id] = session
            mine.size += session.size
            self._by_age[session] = None
            self.size += session.size
        for session in sorted(sessions, key=lambda session: session.used):
            self._park(session)
            for conversation in session.conversations.values():
                self._owners[session.owner].place(conversation)
        for owner, session_id in expired:
            self._expired.add(owner, session_id, trusted=True)
        self.sweep()
        self._limit()

    def _limit(self) -> None:
        config = self._config
        while len(self._by_age) > config.max_sessions:
            victim = self._victim(lambda owner: len(owner.sessions), config.max_sessions // len(self._owners))
            if victim is None:
                break
            self._evict(victim, "count")
        while self._owners and (self.size > config.max_bytes or config.bytes_per_key):
            share = config.max_bytes // len(self._owners) if self.size > config.max_bytes else config.max_bytes
            victim = self._victim(lambda owner: owner.size, min(share, config.bytes_per_key or share))
            if victim is None:
                break
            self._evict(victim, "bytes")

    def _victim(self, used: Callable[[Owner], int], share: int) -> Session | None:
        """The session to go of the owner who has most, if that is more than its share: nobody pushes out what another
        owner has within its own."""
        idle = (owner for owner in self._owners.values() if owner.probation or owner.protected)
        owner = max(idle, key=used, default=None)
        if owner is None or used(owner) <= share:
            return None
        return next(iter(owner.probation or owner.protected))

    def _limit_conversations(self, session: Session) -> None:
        excess = len(session.conversations) - self._config.max_conversations
        if excess <= 0:
            return
        idle = [c for c in session.conversations.values() if not c.running][:excess]
        for conversation in idle:
            del session.conversations[conversation.key]
            self._owners[session.owner].displace(conversation)
            self._grow(session, -conversation.transcript.size)
        if idle:
            self._release(session, "conversations", [(c.transcript.model, c.key) for c in idle])

    # Bookkeeping.

    def _find(self, owner: str, session_id: str | None) -> Session | None:
        mine = self._owners.get(owner)
        return None if session_id is None or mine is None else mine.sessions.get(session_id)

    def _add(self, owner: str, session_id: str, *, issued: bool) -> Session:
        now = self._clock()
        session = Session(owner, session_id, issued=issued, trusted=not issued, created=now, used=now)
        self._owners.setdefault(owner, Owner()).sessions[session_id] = session
        self._by_age[session] = None
        return session

    def _lease(
        self, session: Session, mode: Mode, found: Found, scopes: Sequence[Scope] = (), *, back: bool = False
    ) -> Lease:
        """`back`: somebody has come back to the session."""
        if mode == "append" and session.appending:
            raise Conflict(f"The session {session.id} is busy with another turn.", code="session_busy")
        self._unpark(session)
        session.trusted = session.trusted or back
        session.turns += 1
        session.appending = session.appending or mode == "append"
        session.used = self._clock()
        self._limit()
        return Lease(session, mode, found, scopes)

    def _park(self, session: Session) -> None:
        """No turn of the session is in progress any more: it may be evicted."""
        self._owners[session.owner].idle(session)[session] = None
        self._idle[session] = None

    def _unpark(self, session: Session) -> None:
        self._owners[session.owner].idle(session).pop(session, None)
        self._idle.pop(session, None)

    def _grow(self, session: Session, size: int) -> None:
        session.size += size
        self._owners[session.owner].size += size
        self.size += size

    def _evict(self, session: Session, cause: Cause) -> None:
        self._remove(session)
        if cause != "deleted":
            self._expired.add(session.owner, session.id, trusted=session.trusted)
        released = [(c.transcript.model, c.key) for c in session.conversations.values()]
        self._release(session, cause, released, whole=True)

    def _release(
        self, session: Session, cause: Cause, released: Sequence[tuple[str, str]], *, whole: bool = False
    ) -> None:
        self._on_evict(Evicted(session.owner, session.id, cause, tuple(released), whole))

    def _remove(self, session: Session) -> None:
        self._unpark(session)
        owner = self._owners[session.owner]
        del owner.sessions[session.id]
        owner.size -= session.size
        for conversation in session.conversations.values():
            owner.displace(conversation)
        if not owner.sessions:
            del self._owners[session.owner]
        del self._by_age[session]
        self.size -= session.size
        session.deleted = True

    def _refuse_expired(self, owner: str, session_id: str) -> None:
        if self._expired.has(owner, session_id):
            raise NotFound(
                f"The session '{session_id}' has expired. Begin a new one with the whole conversation; "
                "DELETE /sessions/{id} makes its id free again.",
                code="session_expired",
            )
