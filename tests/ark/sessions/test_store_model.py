"""The store against a simple model of it, under any sequence of operations.

The model keeps sessions in one list, looks at all of them each time, and knows nothing of queues and counters.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ark.config import SessionsConfig
from ark.errors import Conflict, NotFound
from ark.sessions.store import Evicted, Lease, SessionStore
from ark.sessions.transcript import (
    Continuation,
    Seam,
    Transcript,
    common_messages,
    pack_tokens,
    read_message,
    read_messages,
)

CONFIG = SessionsConfig(idle_timeout=100.0, max_age=1000.0, max_sessions=3, max_bytes=8000, max_conversations=2)
OWNERS = ["ann", "bob"]
NAMES = [str(uuid.UUID(int=n)) for n in range(1, 6)]


def finish(continuation: Continuation, text: str) -> Transcript:
    messages = (
        *continuation.messages,
        read_message({"role": "assistant", "content": text}, continuation.messages[-1]),
    )
    seams = () if continuation.transcript is None else continuation.transcript.seams
    seam = Seam(len(continuation.messages), 0, len(messages), True, 0, b"", "")
    kept = [seam for seam in seams if seam.message < continuation.kept]
    return Transcript("m", "f", messages, pack_tokens(range(len(messages))), (*kept, seam))


@dataclass(eq=False)
class ModelSession:
    owner: str
    id: str
    issued: bool
    trusted: bool
    created: float
    used: int
    """When it was used last, in steps; steps have an order where the clock stands still."""
    idle_since: float
    conversations: dict[str, Transcript] = field(default_factory=dict)
    scopes: dict[str, bytes] = field(default_factory=dict)
    """By what a conversation is found beside its session."""
    turns: list[Turn] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(transcript.size for transcript in self.conversations.values())


@dataclass(eq=False)
class Turn:
    session: ModelSession
    lease: Lease
    continuation: Continuation
    before: dict[str, Transcript]


class StoreAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000_000.0
        self.steps = 0
        self.events: list[Evicted] = []
        self.store = SessionStore(CONFIG, clock=lambda: self.now, on_evict=self.events.append)
        self.sessions: list[ModelSession] = []
        self.owners: list[str] = []
        """Those who have sessions, in the order in which they came."""
        self.buried: list[tuple[str, str, bool]] = []
        """(owner, id, trusted), the oldest first."""
        self.issued: list[tuple[str, str]] = []
        self.turns: list[Turn] = []
        self.deleted_turns: list[Turn] = []

    # The model.

    def find(self, owner: str, session_id: str) -> ModelSession | None:
        return next((s for s in self.sessions if (s.owner, s.id) == (owner, session_id)), None)

    def sweep(self) -> None:
        for session in list(self.sessions):
            idle = self.now - session.idle_since >= CONFIG.idle_timeout
            old = self.now - session.created >= CONFIG.max_age
            if not session.turns and (idle or old):
                self.drop(session)

    def limit(self) -> None:
        while len(self.sessions) > CONFIG.max_sessions and self.drop_least(lambda s: 1, CONFIG.max_sessions):
            pass
        while sum(s.size for s in self.sessions) > CONFIG.max_bytes and self.drop_least(
            lambda s: s.size, CONFIG.max_bytes
        ):
            pass

    def drop_least(self, cost: Callable[[ModelSession], int], limit: int) -> bool:
        """Of the owner who has most, if that is more than an equal share."""
        idle = [s for s in self.sessions if not s.turns]
        costs = {owner: sum(cost(s) for s in self.sessions if s.owner == owner) for owner in self.owners}
        most = max((owner for owner in self.owners if any(s.owner == owner for s in idle)), key=costs.get, default=None)
        if most is None or costs[most] <= limit // len(self.owners):
            return False
        self.drop(min((s for s in idle if s.owner == most), key=lambda s: (s.trusted, s.used)))
        return True

    def drop(self, session: ModelSession) -> None:
        self.remove(session)
        self.buried.append((session.owner, session.id, session.trusted))
        alike = [b for b in self.buried if (b[0], b[2]) == (session.owner, session.trusted)]
        if len(alike) > CONFIG.max_sessions:
            self.buried.remove(alike[0])

    def remove(self, session: ModelSession) -> None:
        self.sessions.remove(session)
        if not any(s.owner == session.owner for s in self.sessions):
            self.owners.remove(session.owner)

    def is_buried(self, owner: str, name: str) -> bool:
        return any((o, n) == (owner, name) for o, n, _ in self.buried)

    def sessions_by_content(self, owner: str, scope: bytes, messages: Any) -> list[ModelSession]:
        """Those of the conversations that have most replies in common with the messages, if any."""
        found: dict[int, list[ModelSession]] = {}
        for session in self.sessions:
            for key, transcript in session.conversations.items():
                if session.owner == owner and session.scopes.get(key) == scope:
                    common = common_messages(transcript.messages, messages)
                    replies = [seam.message for seam in transcript.seams if seam.message < common]
                    found.setdefault(max(replies, default=-1), []).append(session)
        return found[max(found)] if max(found, default=-1) >= 0 else []

    def began(self, lease: Lease, owner: str, messages: Any) -> None:
        """The model's side of a new turn, after the sweep."""
        session = self.find(owner, lease.session.id)
        if session is None:
            issued = lease.session.issued
            session = ModelSession(owner, lease.session.id, issued, not issued, self.now, 0, self.now)
            self.sessions.append(session)
            if owner not in self.owners:
                self.owners.append(owner)
            if issued:
                assert (owner, session.id) not in self.issued
                self.issued.append((owner, session.id))
        continuation = self.store.resume(lease, read_messages(messages), "m")
        turn = Turn(session, lease, continuation, dict(session.conversations))
        session.turns.append(turn)
        self.turns.append(turn)
        self.limit()
        self.check_past(turn)

    def check_past(self, turn: Turn) -> None:
        if turn.continuation.transcript is not None:
            assert turn.continuation.transcript in turn.before.values() or turn.lease.found == "content"
            digests = [m.digest for m in turn.continuation.messages]
            theirs = [m.digest for m in turn.continuation.transcript.messages]
            assert digests[: turn.continuation.kept] == theirs[: turn.continuation.kept]
            if turn.continuation.kept < len(theirs):
                assert turn.lease.key not in turn.before

    def ended(self, turn: Turn) -> None:
        self.turns.remove(turn)
        session = turn.session
        session.turns.remove(turn)
        if session in self.sessions:
            session.used, session.idle_since = self.steps, self.now
            if not session.turns and not session.conversations:
                self.remove(session)
        self.limit()

    # What happens.

    @rule(seconds=st.sampled_from([1, 2, 30, 99, 100, 400]))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule(owner=st.sampled_from(OWNERS), data=st.data(), texts=st.lists(st.sampled_from("ab"), min_size=1, max_size=3))
    def a_cookie_turn_begins(self, owner: str, data: Any, texts: list[str]) -> None:
        self.steps += 1
        cookies = [None, str(uuid.UUID(int=99)), *NAMES, *(name for _, name in self.issued)]
        cookie = data.draw(st.sampled_from(cookies))
        self.sweep()
        known = self.find(owner, cookie) if cookie else None
        lease = self.store.lease_cookie(owner, cookie)
        if known is not None and known.issued:
            assert lease.session.id == known.id
            known.trusted = True
        else:
            assert lease.session.id != cookie
            assert uuid.UUID(lease.session.id).version == 4
        # An alternating history, as a client sends it.
        roles = ["user", "assistant"]
        self.began(lease, owner, [{"role": roles[n % 2], "content": t} for n, t in enumerate(texts)])

    @rule(owner=st.sampled_from(OWNERS), data=st.data(), text=st.sampled_from("abc"))
    def a_named_turn_begins(self, owner: str, data: Any, text: str) -> None:
        self.steps += 1
        name = data.draw(st.sampled_from([*NAMES, *(name for _, name in self.issued)]))
        self.sweep()
        session = self.find(owner, name)
        if session is None and self.is_buried(owner, name):
            with pytest.raises(NotFound) as error:
                self.store.lease_named(owner, name)
            assert error.value.code == "session_expired"
            return
        if session is not None and any(turn.lease.mode == "append" for turn in session.turns):
            with pytest.raises(Conflict):
                self.store.lease_named(owner, name)
            return
        lease = self.store.lease_named(owner, name)
        assert lease.session.id == name
        if session is not None:
            session.trusted = True
        self.began(lease, owner, [{"role": "user", "content": text}])

    @precondition(lambda self: any(session.conversations for session in self.sessions))
    @rule(
        data=st.data(),
        text=st.sampled_from("abc"),
        named=st.booleans(),
        twice=st.booleans(),
        at_once=st.booleans(),
    )
    def a_client_goes_on(self, data: Any, text: str, named: bool, twice: bool, at_once: bool) -> None:
        """A turn of a live session with the history that its client has, or with a part of it."""
        self.steps += 1
        self.sweep()
        sessions = [session for session in self.sessions if session.conversations]
        if not sessions:
            return
        session = data.draw(st.sampled_from(sessions))
        named = named or not session.issued
        if named and any(turn.lease.mode == "append" for turn in session.turns):
            return
        transcript = data.draw(st.sampled_from(list(session.conversations.values())))
        back = data.draw(st.sampled_from([0, 0, 1, 2]))
        history = [dict(message.data) for message in transcript.messages]
        history = [*history[: len(history) - back], {"role": "user", "content": text}]
        lease = (
            self.store.lease_named(session.owner, session.id)
            if named
            else self.store.lease_cookie(session.owner, session.id)
        )
        assert lease.session.id == session.id
        session.trusted = True
        self.began(lease, session.owner, history)
        if twice and not named:
            self.began(self.store.lease_cookie(session.owner, session.id), session.owner, history)
        if at_once:
            self.commit(self.turns[-1], text)

    @precondition(lambda self: any(session.conversations for session in self.sessions))
    @rule(
        data=st.data(),
        owner=st.sampled_from(OWNERS),
        scope=st.sampled_from([b"1", b"2"]),
        text=st.sampled_from("abc"),
        back=st.sampled_from([0, 0, 1, 2]),
        at_once=st.booleans(),
    )
    def a_client_goes_on_without_a_cookie(
        self, *, data: Any, owner: str, scope: bytes, text: str, back: int, at_once: bool
    ) -> None:
        self.steps += 1
        self.sweep()
        known = [t for session in self.sessions for t in session.conversations.values()]
        history = [dict(message.data) for message in data.draw(st.sampled_from(known)).messages] if known else []
        history = [*history[: len(history) - back], {"role": "user", "content": text}]
        sent = read_messages(history)
        wanted = self.sessions_by_content(owner, scope, sent)
        lease = self.store.lease_cookie(owner, None, messages=sent, scopes=[("content", scope)])
        assert lease.found == ("content" if wanted else "new")
        if wanted:
            session = self.find(owner, lease.session.id)
            assert session in wanted
            session.trusted = True
        self.began(lease, owner, history)
        if at_once:
            self.commit(self.turns[-1], text)

    @precondition(lambda self: self.turns)
    @rule(data=st.data(), text=st.sampled_from("abc"))
    def a_turn_commits(self, data: Any, text: str) -> None:
        self.commit(data.draw(st.sampled_from(self.turns)), text)

    def commit(self, turn: Turn, text: str) -> None:
        self.steps += 1
        transcript = finish(turn.continuation, text)
        live = turn.session in self.sessions
        assert self.store.commit(turn.lease, transcript) == live
        if live:
            turn.session.conversations.pop(turn.lease.key, None)
            turn.session.conversations[turn.lease.key] = transcript
            if turn.lease.mode == "match":
                turn.session.scopes[turn.lease.key] = b"".join(scope for _, scope in turn.lease.scopes)
            running = {
                other.lease.key for other in turn.session.turns if other is not turn and other.lease.key in other.before
            }
            idle = [key for key in turn.session.conversations if key not in running]
            excess = len(turn.session.conversations) - CONFIG.max_conversations
            for key in idle[: max(0, excess)]:
                del turn.session.conversations[key]
        self.ended(turn)

    @precondition(lambda self: self.turns)
    @rule(data=st.data())
    def a_turn_fails(self, data: Any) -> None:
        self.steps += 1
        turn = data.draw(st.sampled_from(self.turns))
        before = dict(turn.session.conversations)
        self.store.end(turn.lease)
        assert {k: c.transcript for k, c in turn.lease.session.conversations.items()} == before or (
            turn.session not in self.sessions
        )
        self.ended(turn)

    @rule(owner=st.sampled_from(OWNERS), data=st.data())
    def a_session_is_deleted(self, owner: str, data: Any) -> None:
        name = data.draw(st.sampled_from([*NAMES, *(name for _, name in self.issued)]))
        self.sweep()
        session = self.find(owner, name)
        known = session is not None or self.is_buried(owner, name)
        assert self.store.delete(owner, name) == known
        self.buried = [b for b in self.buried if b[:2] != (owner, name)]
        if session is not None:
            self.remove(session)

    # What always holds.

    @invariant()
    def the_store_has_what_the_model_has(self) -> None:
        self.sweep()
        for owner in OWNERS:
            mine = {s.id: s for s in self.sessions if s.owner == owner}
            listed = {info.id: info for info in self.store.describe_all(owner)}
            assert listed.keys() == mine.keys()
            for name, info in listed.items():
                assert info.bytes == mine[name].size
                assert info.running == len(mine[name].turns)
                assert info.conversations == len(mine[name].conversations)
        assert len(self.store) == len(self.sessions)
        assert self.store.size == sum(s.size for s in self.sessions)

    @invariant()
    def conversations_are_those_that_were_committed_the_latest_last(self) -> None:
        for session in self.sessions:
            found = self.store._find(session.owner, session.id)
            assert found is not None
            theirs = [(key, c.transcript) for key, c in found.conversations.items()]
            assert theirs == list(session.conversations.items())

    @invariant()
    def what_can_be_found_is_live(self) -> None:
        places = {c.key for owner in self.store._owners.values() for found in owner.places.values() for c in found}
        live = {key for session in self.sessions for key in session.conversations if session.scopes.get(key)}
        assert places == live

    @invariant()
    def no_two_turns_replace_the_same_conversation(self) -> None:
        keys = [turn.lease.key for turn in self.turns]
        assert len(keys) == len(set(keys))

    @invariant()
    def limits_hold_but_for_running_turns(self) -> None:
        """And for what others have within their share, which those turns do not push out."""
        idle = {s.owner for s in self.sessions if not s.turns}
        counts = {owner: sum(s.owner == owner for s in self.sessions) for owner in self.owners}
        sizes = {owner: sum(s.size for s in self.sessions if s.owner == owner) for owner in self.owners}
        for total, used, limit in (
            (len(self.store), counts, CONFIG.max_sessions),
            (self.store.size, sizes, CONFIG.max_bytes),
        ):
            assert total <= limit or all(used[owner] <= limit // len(self.owners) for owner in idle)

    @invariant()
    def the_state_of_a_live_conversation_is_never_released(self) -> None:
        gone = {key for event in self.events for _, key in event.released}
        live = {key for session in self.sessions for key in session.conversations}
        assert not gone & live


StoreAgainstModel.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestStoreAgainstModel = StoreAgainstModel.TestCase
