"""Sessions as endpoints use them: turns, waiting, cookies, switching off."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from ark.config import SessionsConfig
from ark.errors import BadRequest, Conflict, NotFound
from ark.sessions.service import Sessions
from ark.sessions.storage import Saved, StorageError
from ark.sessions.transcript import Transcript, read_messages

pytestmark = pytest.mark.anyio

NAME = str(uuid.UUID(int=7))


@pytest.fixture
def sessions_of(clock: Any) -> Callable[..., Sessions]:
    return lambda storage=None, **config: Sessions(SessionsConfig(**config), storage=storage, clock=clock)


@pytest.fixture
def say(finish: Callable[..., Transcript], says: Any) -> Callable[..., Any]:
    """A whole turn; returns the session's id, how it continued, and what the model read."""

    async def whole(sessions: Sessions, text: str, owner: str = "ann", **which: Any) -> Any:
        async with await sessions.begin(owner, **which) as turn:
            continuation = turn.resume(read_messages([says(text)]), "m")
            assert await turn.commit(finish(continuation, text.upper()))
            return turn.session_id, continuation.how, [m.data["content"] for m in continuation.messages]

    return whole


async def test_a_named_session_is_one_conversation(sessions_of: Any, say: Any) -> None:
    sessions = sessions_of()
    assert await say(sessions, "a", stateful=NAME) == (NAME, "created", ["a"])
    assert await say(sessions, "b", stateful=NAME.upper()) == (NAME, "continued", ["a", "A", "b"])
    assert (await say(sessions, "c", owner="bob", stateful=NAME))[1:] == ("created", ["c"])


async def test_true_appends_to_the_cookies_session(sessions_of: Any, say: Any) -> None:
    sessions = sessions_of()
    cookie, *_ = await say(sessions, "a", stateful=True)
    assert await say(sessions, "b", cookie=cookie, stateful=True) == (cookie, "continued", ["a", "A", "b"])


async def test_only_a_cookies_session_sets_the_cookie(sessions_of: Any) -> None:
    sessions = sessions_of()
    for which in ({}, {"stateful": True}):
        async with await sessions.begin("ann", **which) as turn:
            assert turn.set_cookie.startswith(f"ark_session_id={turn.session_id}; Max-Age=86400;")
    for which in ({"stateful": NAME}, {"stateful": False}, {"stateful": False, "cookie": NAME}):
        async with await sessions.begin("ann", **which) as turn:
            assert turn.set_cookie is None


async def test_stateless_reads_and_keeps_nothing(sessions_of: Any, finish: Any, says: Any, say: Any) -> None:
    sessions = sessions_of()
    cookie, *_ = await say(sessions, "a")
    async with await sessions.begin("ann", cookie=cookie, stateful=False) as turn:
        continuation = turn.resume(read_messages([says("a"), {"role": "assistant", "content": "A"}, says("b")]), "m")
        assert (continuation.how, continuation.transcript, turn.key, turn.session_id) == ("stateless", None, None, None)
        assert not await turn.commit(finish(continuation, "B"))
    assert [info.messages for info in sessions.store.describe_all("ann")] == [2]


async def test_switched_off_there_is_no_session(sessions_of: Any, says: Any) -> None:
    sessions = sessions_of(enabled=False)
    for stateful in (None, False):
        async with await sessions.begin("ann", cookie=NAME, stateful=stateful) as turn:
            assert turn.resume(read_messages([says("a")]), "m").how == "stateless"
            assert turn.set_cookie is None
    for stateful in (True, NAME):
        with pytest.raises(BadRequest) as error:
            await sessions.begin("ann", stateful=stateful)
        assert error.value.param == "ark_stateful"


async def test_a_failed_turn_leaves_the_transcript_and_may_be_sent_again(sessions_of: Any, say: Any, says: Any) -> None:
    sessions = sessions_of()
    await say(sessions, "a", stateful=NAME)

    async def fail() -> None:
        async with await sessions.begin("ann", stateful=NAME) as turn:
            turn.resume(read_messages([says("b")]), "m")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert (await say(sessions, "b", stateful=NAME))[2] == ["a", "A", "b"]


async def test_a_second_turn_waits_for_the_first(sessions_of: Any, say: Any, finish: Any, says: Any) -> None:
    sessions = sessions_of()
    results: list[Any] = []

    async def second() -> None:
        results.append(await say(sessions, "b", stateful=NAME))

    async with anyio.create_task_group() as tasks, await sessions.begin("ann", stateful=NAME) as turn:
        continuation = turn.resume(read_messages([says("a")]), "m")
        tasks.start_soon(second)
        await anyio.sleep(0.02)
        assert results == []
        await turn.commit(finish(continuation, "A"))
    assert results == [(NAME, "continued", ["a", "A", "b"])]


async def test_a_second_turn_is_refused_when_it_waits_too_long(sessions_of: Any, say: Any, says: Any) -> None:
    sessions = sessions_of(busy_wait=0.01)
    async with await sessions.begin("ann", stateful=NAME) as turn:
        turn.resume(read_messages([says("a")]), "m")
        with pytest.raises(Conflict) as error:
            await sessions.begin("ann", stateful=NAME)
        assert error.value.code == "session_busy"
        # Another key's session of the same name is free.
        await say(sessions, "x", owner="bob", stateful=NAME)
    assert (await say(sessions, "b", stateful=NAME))[1] == "created"
    assert sessions._locks._users == sessions._locks._semaphores == {}


async def test_a_free_session_is_entered_without_any_wait(sessions_of: Any, say: Any) -> None:
    sessions = sessions_of(busy_wait=0.0)
    assert (await say(sessions, "a", stateful=NAME))[1] == "created"
    assert (await say(sessions, "b", stateful=NAME))[1] == "continued"


async def test_a_waiting_turn_that_is_cancelled_leaves_the_session_free(sessions_of: Any, say: Any) -> None:
    sessions = sessions_of()
    turn = await sessions.begin("ann", stateful=NAME)
    with anyio.move_on_after(0.01):
        await sessions.begin("ann", stateful=NAME)
    turn.close()
    turn.close()
    with anyio.fail_after(60):
        assert (await say(sessions, "b", stateful=NAME))[1] == "created"


async def test_matching_turns_run_side_by_side_and_fork(sessions_of: Any, say: Any, finish: Any, says: Any) -> None:
    sessions = sessions_of(busy_wait=0.0)
    cookie, *_ = await say(sessions, "a")
    history = [says("a"), {"role": "assistant", "content": "A"}]
    async with (
        await sessions.begin("ann", cookie=cookie) as one,
        await sessions.begin("ann", cookie=cookie) as other,
    ):
        first, fork = (
            one.resume(read_messages([*history, says("b")]), "m"),
            other.resume(read_messages([*history, says("c")]), "m"),
        )
        assert one.key != other.key
        assert first.transcript is fork.transcript is not None
        await other.commit(finish(fork, "C"))
        await one.commit(finish(first, "B"))
    async with await sessions.begin("ann", cookie=cookie) as turn:
        third = turn.resume(read_messages([*history, says("c"), {"role": "assistant", "content": "C"}, says("d")]), "m")
        assert third.how == "continued"
        assert "B" not in [m.data["content"] for m in third.messages]


async def test_an_expired_cookie_starts_anew_but_not_where_its_messages_are_needed(
    sessions_of: Any, say: Any, clock: Any
) -> None:
    sessions = sessions_of()
    cookie, *_ = await say(sessions, "a")
    clock.now += 1800
    fresh, how, _ = await say(sessions, "a", cookie=cookie)
    assert fresh != cookie
    assert how == "created"
    with pytest.raises(NotFound) as error:
        await sessions.begin("ann", cookie=cookie, stateful=True)
    assert error.value.code == "session_expired"
    assert error.value.headers["set-cookie"].startswith("ark_session_id=; Max-Age=0")
    # The refused turn holds nothing.
    with pytest.raises(NotFound):
        await sessions.begin("ann", cookie=cookie, stateful=True)


class FullDisk:
    """A storage that cannot write, which it knows after some time."""

    seconds = 0.0

    async def open(self) -> Saved:
        return Saved()

    async def save(self, *turn: Any) -> None:
        await anyio.sleep(self.seconds)
        raise StorageError("database or disk is full")

    async def save_record(self, key: str, value: bytes) -> None:
        await self.save()

    def forget_records(self, keys: Any) -> None:
        pass

    def forget_session(self, owner: str, session: str, *, expired: bool) -> None:
        pass

    def forget_conversations(self, keys: Any) -> None:
        pass

    async def flush(self) -> None:
        await self.save()

    async def close(self) -> None:
        pass


async def test_a_turn_that_cannot_be_written_is_answered_and_kept_in_memory(
    sessions_of: Any, say: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = sessions_of(FullDisk())
    await say(sessions, "a", stateful=NAME)
    assert (await say(sessions, "b", stateful=NAME))[1] == "continued"
    await sessions.save_record("a", b"")
    await sessions.flush()
    assert sessions.write_failures == 3
    assert "disk is full" in caplog.text


async def test_that_it_cannot_be_written_is_told_though_the_client_has_left(
    sessions_of: Any, say: Any, caplog: pytest.LogCaptureFixture
) -> None:
    disk = FullDisk()
    disk.seconds = 0.05
    sessions = sessions_of(disk)
    with anyio.move_on_after(0.01):
        await say(sessions, "a", stateful=NAME)
    assert sessions.write_failures == 1
    assert "disk is full" in caplog.text
    disk.seconds = 0
    assert (await say(sessions, "b", stateful=NAME))[1] == "continued"
