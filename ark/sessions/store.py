"""The session store: which sessions are kept, for how long, and which go when there are too many.

Pure: it waits for nothing, opens no file, and is given its clock, which is wall-clock seconds because ages live through
a restart. Every operation costs amortised constant time in the number of sessions.
"""

from __future__ import annotations

import secrets
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ark.config import SessionsConfig
from ark.errors import BadRequest, Conflict, NotFound
from ark.sessions.session import ExpiredIds, Mode, Session, SessionInfo, parse_session_id
from ark.sessions.transcript import (
    Continuation,
    Conversation,
    Message,
    Transcript,
    append_to_conversation,
    match_conversation,
)

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
    key: str = ""
    """Names the state that the turn continues and leaves behind in the backend; empty until `resume`."""
    model: str = ""
    conversation: Conversation | None = None
    """The conversation that the turn replaces; None when it makes a new one."""
    ended: bool = False


@dataclass(eq=False)
class Owner:
    """What the store has of one owner."""

    sessions: dict[str, Session] = field(default_factory=dict)
    size: int = 0
    """Bytes of their transcripts."""
    probation: OrderedDict[Session, None] = field(default_factory=OrderedDict)
    """Sessions without a turn in progress, least recently used first, whose cookie never came back; and the others."""
    protected: OrderedDict[Session, None] = field(default_factory=OrderedDict)


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
        # Two, so that clients without a cookie jar cannot push out the ids that others will ask for.
        self._expired_probation = ExpiredIds(config.max_sessions)
        self._expired = ExpiredIds(config.max_sessions)
        self._size = 0

    def __len__(self) -> int:
        return len(self._by_age)

    @property
    def size(self) -> int:
        """Bytes of all transcripts."""
        return self._size

    # Finding and making sessions. Each returns a lease, so that nothing evicts what was just found.

    def lease_cookie(self, owner: str, cookie: str | None, mode: Mode = "match") -> Lease:
        """The session that a cookie names, or a fresh one under a new id.

        An id that ARK did not issue to this owner is not adopted. In append mode an expired session raises NotFound
        `session_expired`, because the messages that it held are not in the request, and another turn in append mode
        raises Conflict `session_busy`.
        """
        self.sweep()
        session_id = parse_session_id(cookie) if cookie is not None else None
        session = self._find(owner, session_id)
        if session is not None and session.issued:
            self._refuse_busy(session, mode)
            self._trust(session)
            return self._lease(session, mode)
        if mode == "append" and session_id is not None and session is None:
            self._refuse_expired(owner, session_id)
        return self._lease(self._add(owner, str(uuid.uuid4()), issued=True), mode)

    def lease_named(self, owner: str, session_id: str) -> Lease:
        """The owner's session of that name, made on first use.

        Raises NotFound `session_expired`, and Conflict `session_busy` during another turn in append mode.
        """
        self.sweep()
        session = self._find(owner, session_id)
        if session is None:
            self._refuse_expired(owner, session_id)
            session = self._add(owner, session_id, issued=False)
        self._refuse_busy(session, "append")
        self._trust(session)
        return self._lease(session, "append")

    def describe(self, owner: str, session_id: str) -> SessionInfo:
        """One session of the owner. Raises NotFound, `session_expired` or `session_not_found`."""
        self.sweep()
        session = self._find(owner, session_id)
        if session is None:
            self._refuse_expired(owner, session_id)
            raise NotFound(f"There is no session '{session_id}'.", code="session_not_found")
        return self._info(session)

    def describe_all(self, owner: str) -> list[SessionInfo]:
        """The owner's sessions, the most recently used first."""
        self.sweep()
        mine = self._owners[owner].sessions if owner in self._owners else {}
        return [self._info(session) for session in sorted(mine.values(), key=lambda s: s.used, reverse=True)]

    def delete(self, owner: str, session_id: str) -> bool:
        """Forget a session; a turn in progress will commit nothing. Its id is free for a new one afterwards.

        An expired session's id becomes free too. False when the owner has neither.
        """
        self.sweep()
        expired = [ids.discard(owner, session_id) for ids in (self._expired, self._expired_probation)]
        session = self._find(owner, session_id)
        if session is None:
            return any(expired)
        self._evict(session, "deleted")
        return True

    # A turn.

    def resume(self, lease: Lease, messages: tuple[Message, ...], model: str) -> Continuation:
        """What the request's messages continue; once in a lease. Raises BadRequest when they cannot."""
        if lease.ended or lease.key:
            raise RuntimeError("a turn resumes once, while it runs")
        session = lease.session
        latest_first = tuple(reversed(session.conversations.values()))
        if lease.mode == "match":
            continuation, conversation = match_conversation(latest_first, messages, model)
        else:
            self._refuse_model(session, model)
            continuation, conversation = append_to_conversation(latest_first, messages, model)
        lease.model, lease.conversation = model, conversation
        if conversation is None:
            lease.key = secrets.token_hex(16)
        else:
            lease.key = conversation.key
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
        if kept and conversation is None:
            session.conversations[lease.key] = Conversation(lease.key, transcript)
            self._grow(session, transcript.size)
        elif kept and conversation is not None:
            self._grow(session, transcript.size - conversation.transcript.size)
            conversation.transcript = transcript
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
            self._size += session.size
        for session in sorted(sessions, key=lambda session: session.used):
            self._park(session)
        for owner, session_id in expired:
            self._expired.add(owner, session_id)
        self.sweep()
        self._limit()

    def _limit(self) -> None:
        config = self._config
        while len(self._by_age) > config.max_sessions:
            victim = self._victim(lambda owner: len(owner.sessions), config.max_sessions // len(self._owners))
            if victim is None:
                break
            self._evict(victim, "count")
        while self._owners and (self._size > config.max_bytes or config.bytes_per_key):
            share = config.max_bytes // len(self._owners) if self._size > config.max_bytes else config.max_bytes
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

    def _trust(self, session: Session) -> None:
        if not session.trusted:
            self._owners[session.owner].probation.pop(session, None)
            session.trusted = True
            if session.turns == 0:
                self._owners[session.owner].protected[session] = None

    def _lease(self, session: Session, mode: Mode) -> Lease:
        self._unpark(session)
        session.turns += 1
        session.appending = session.appending or mode == "append"
        session.used = self._clock()
        self._limit()
        return Lease(session, mode)

    def _park(self, session: Session) -> None:
        """No turn of the session is in progress any more: it may be evicted."""
        owner = self._owners[session.owner]
        (owner.protected if session.trusted else owner.probation)[session] = None
        self._idle[session] = None

    def _unpark(self, session: Session) -> None:
        owner = self._owners[session.owner]
        (owner.protected if session.trusted else owner.probation).pop(session, None)
        self._idle.pop(session, None)

    def _grow(self, session: Session, size: int) -> None:
        session.size += size
        self._owners[session.owner].size += size
        self._size += size

    def _evict(self, session: Session, cause: Cause) -> None:
        self._remove(session)
        if cause != "deleted":
            (self._expired if session.trusted else self._expired_probation).add(session.owner, session.id)
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
        if not owner.sessions:
            del self._owners[session.owner]
        del self._by_age[session]
        self._size -= session.size
        session.deleted = True

    @staticmethod
    def _refuse_model(session: Session, model: str) -> None:
        """A session that the client named is a conversation with one model."""
        if session.issued or not session.conversations:
            return
        other = next(iter(session.conversations.values())).transcript.model
        if other != model:
            raise BadRequest(
                f"This session is a conversation with the model '{other}'; use another session for '{model}'.",
                param="model",
                code="session_model_mismatch",
            )

    @staticmethod
    def _refuse_busy(session: Session, mode: Mode) -> None:
        if mode == "append" and session.appending:
            raise Conflict(f"The session {session.id} is busy with another turn.", code="session_busy")

    def _refuse_expired(self, owner: str, session_id: str) -> None:
        if self._expired.has(owner, session_id) or self._expired_probation.has(owner, session_id):
            raise NotFound(
                f"The session '{session_id}' has expired. Begin a new one with the whole conversation; "
                "DELETE /sessions/{id} makes its id free again.",
                code="session_expired",
            )

    def _info(self, session: Session) -> SessionInfo:
        transcripts = [c.transcript for c in session.conversations.values()]
        config = self._config
        return SessionInfo(
            id=session.id,
            kind="cookie" if session.issued else "named",
            created=session.created,
            last_used=session.used,
            expires=min(session.used + config.idle_timeout, session.created + config.max_age),
            running=session.turns,
            conversations=len(transcripts),
            messages=sum(len(transcript.messages) for transcript in transcripts),
            tokens=sum(transcript.length for transcript in transcripts),
            bytes=session.size,
            models=sorted({transcript.model for transcript in transcripts}),
        )
