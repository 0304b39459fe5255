"""The store, case by case: what a session is, and when it goes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from ark.config import SessionsConfig
from ark.errors import NotFound
from ark.sessions.store import Evicted, Lease, SessionStore
from ark.sessions.transcript import Transcript, read_messages

NAME = str(uuid.UUID(int=1))


@pytest.fixture
def events() -> list[Evicted]:
    return []


@pytest.fixture
def store_of(clock: Any, events: list[Evicted]) -> Callable[..., SessionStore]:
    def make(**config: Any) -> SessionStore:
        return SessionStore(SessionsConfig(**config), clock=clock, on_evict=events.append)

    return make


@pytest.fixture
def say(finish: Callable[..., Transcript]) -> Callable[..., Lease]:
    """A whole turn of a lease."""

    def whole(store: SessionStore, lease: Lease, text: str = "hello") -> Lease:
        continuation = store.resume(lease, read_messages([{"role": "user", "content": text}]), "m")
        store.commit(lease, finish(continuation, text.upper()))
        return lease

    return whole


def test_a_cookie_continues_its_owners_session_only(store_of: Any, say: Any) -> None:
    store = store_of()
    first = say(store, store.lease_cookie("ann", None)).session
    assert uuid.UUID(first.id).version == 4
    assert store.lease_cookie("ann", first.id).session is first
    assert store.lease_cookie("bob", first.id).session.id != first.id


def test_an_id_that_a_client_chose_is_no_cookie(store_of: Any, say: Any) -> None:
    store = store_of()
    say(store, store.lease_named("ann", NAME))
    assert store.lease_cookie("ann", NAME).session.id != NAME
    assert store.lease_cookie("ann", "junk").session.issued


def test_the_same_name_under_another_key_is_another_session(store_of: Any, say: Any) -> None:
    store = store_of()
    mine = say(store, store.lease_named("ann", NAME)).session
    theirs = say(store, store.lease_named("bob", NAME)).session
    assert mine is not theirs
    assert [info.id for info in store.describe_all("bob")] == [NAME]
    assert not store.delete("eve", NAME)
    with pytest.raises(NotFound) as error:
        store.describe("eve", NAME)
    assert error.value.code == "session_not_found"


def test_an_idle_session_expires_and_its_name_says_so(store_of: Any, say: Any, clock: Any, events: Any) -> None:
    store = store_of(idle_timeout=10.0)
    lease = say(store, store.lease_named("ann", NAME))
    clock.now += 10.0
    for ask in (store.lease_named, store.describe):
        with pytest.raises(NotFound) as error:
            ask("ann", NAME)
        assert error.value.code == "session_expired"
    assert [(event.cause, event.released, event.whole) for event in events] == [("idle", (("m", lease.key),), True)]
    # Another key sees a name that is free.
    assert store.lease_named("bob", NAME).session.owner == "bob"


def test_a_turn_renews_a_session_but_not_its_age(store_of: Any, say: Any, clock: Any, events: Any) -> None:
    store = store_of(idle_timeout=10.0, max_age=25.0)
    for _ in range(3):
        say(store, store.lease_named("ann", NAME))
        clock.now += 9.0
    store.sweep()
    assert [event.cause for event in events] == ["age"]


def test_a_deleted_name_is_free_and_so_is_an_expired_one_after_deleting_it(store_of: Any, say: Any, clock: Any) -> None:
    store = store_of()
    first = say(store, store.lease_named("ann", NAME)).session
    assert store.delete("ann", NAME)
    second = say(store, store.lease_named("ann", NAME)).session
    assert second is not first
    clock.now += 1800.0
    store.sweep()
    assert store.delete("ann", NAME)
    assert not store.delete("ann", NAME)
    assert not store.lease_named("ann", NAME).session.conversations


def test_a_session_outlives_its_limits_while_a_turn_runs(store_of: Any, say: Any, clock: Any, finish: Any) -> None:
    store = store_of(max_sessions=1)
    say(store, store.lease_named("ann", NAME))
    lease = store.lease_named("ann", NAME)
    continuation = store.resume(lease, read_messages([{"role": "user", "content": "b"}]), "m")
    clock.now += 5000.0
    say(store, store.lease_cookie("bob", None))
    store.sweep()
    assert store.commit(lease, finish(continuation, "B"))
    assert store.describe("ann", NAME).messages == 4


def test_a_turn_of_a_deleted_session_is_dropped(store_of: Any, say: Any, finish: Any, events: Any) -> None:
    store = store_of()
    say(store, store.lease_named("ann", NAME))
    lease = store.lease_named("ann", NAME)
    continuation = store.resume(lease, read_messages([{"role": "user", "content": "b"}]), "m")
    store.delete("ann", NAME)
    assert not store.commit(lease, finish(continuation, "B"))
    assert len(store) == store.size == 0
    # What the turn has left in the backend meanwhile goes as well.
    assert events[-1].released == (("m", lease.key),)


def test_clients_without_a_cookie_jar_push_out_each_other_first(store_of: Any, say: Any) -> None:
    store = store_of(max_sessions=3)
    kept = say(store, store.lease_cookie("ann", None)).session
    say(store, store.lease_cookie("ann", kept.id))
    for _ in range(10):
        say(store, store.lease_cookie("bob", None))
    assert store.describe("ann", kept.id).conversations == 2
    assert len(store) == 3


def test_transcripts_over_the_byte_limit_push_out_the_least_recently_used(
    store_of: Any, say: Any, clock: Any, events: Any
) -> None:
    store = store_of(max_bytes=7000)
    names = [str(uuid.UUID(int=n)) for n in range(3)]
    for name in names:
        say(store, store.lease_named("ann", name), "x" * 900)
        clock.now += 1
    assert [info.id for info in store.describe_all("ann")] == [names[2], names[1]]
    assert [event.cause for event in events] == ["bytes"]
    assert store.size == sum(info.bytes for info in store.describe_all("ann")) <= 7000


@pytest.mark.parametrize("limits", [{"max_bytes": 21_000}, {"max_sessions": 6}, {"bytes_per_key": 7000}])
def test_nobody_pushes_out_what_another_has_within_its_share(
    store_of: Any, say: Any, events: Any, limits: dict[str, int]
) -> None:
    store = store_of(**limits)
    kept = [say(store, store.lease_cookie("bob", None), "x" * 900).session.id for _ in range(2)]
    for _ in range(20):
        say(store, store.lease_named("ann", str(uuid.uuid4())), "x" * 900)
    assert {info.id for info in store.describe_all("bob")} == set(kept)
    assert {event.owner for event in events} == {"ann"}
    assert store.describe_all("ann")
    # Whoever has most gives way, however old what the other has.
    say(store, store.lease_cookie("eve", None), "x" * 900)
    assert len(store.describe_all("bob")) == 2
    assert len(store.describe_all("eve")) == 1


def test_a_session_keeps_its_latest_conversations(store_of: Any, say: Any, events: Any) -> None:
    store = store_of(max_conversations=2)
    cookie = say(store, store.lease_cookie("ann", None), "a").session.id
    for text in "bc":
        say(store, store.lease_cookie("ann", cookie), text)
    assert store.describe("ann", cookie).conversations == 2
    assert [(event.cause, event.whole) for event in events] == [("conversations", False)]
    lease = store.lease_cookie("ann", cookie)
    question = {"role": "user", "content": "a"}
    assert store.resume(lease, read_messages([question]), "m").how == "created"


def test_a_failed_first_turn_leaves_no_session(store_of: Any) -> None:
    store = store_of()
    lease = store.lease_named("ann", NAME)
    store.resume(lease, read_messages([{"role": "user", "content": "a"}]), "m")
    store.end(lease)
    store.end(lease)
    assert len(store) == 0
    assert store.lease_named("ann", NAME).session.turns == 1


def test_operations_do_not_slow_down_with_the_number_of_sessions(say: Any) -> None:
    def cost(count: int) -> float:
        now = 0.0
        store = SessionStore(SessionsConfig(max_sessions=count), clock=lambda: now)
        for _ in range(count):
            say(store, store.lease_cookie("ann", None))
        times = []
        for _ in range(300):
            begun = time.perf_counter()
            say(store, store.lease_cookie("ann", None))
            times.append(time.perf_counter() - begun)
        return sorted(times)[100]

    assert cost(8000) < 10 * cost(80)
