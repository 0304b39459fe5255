"""Children: what they may not do, and what becomes of the job, the caller and the next job when one ends."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from ark_backends.kit import child_process
from ark_backends.kit.child_process import ChildDied, ChildFailedToStart, ChildPool, ChildProcess

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no limits to set")


@pytest.fixture
def pool() -> Iterator[ChildPool]:
    with closing(ChildPool("echo_child", idle=1)) as one:
        yield one


def ask(pool: ChildPool, kind: bytes, text: str = "", **more: Any) -> str:
    with pool.child() as child:
        child.send(kind, text.encode())
        return child.receive(**more)[1].decode()


def pid(pool: ChildPool) -> int:
    with pool.child() as child:
        return child.pid


@pytest.mark.parametrize("action", ["file", "write", "socket", "pair", "pipe", "duplicate"])
def test_nothing_can_be_opened(pool: ChildPool, action: str) -> None:
    assert ask(pool, b"T", action) == "OSError"


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not limit memory")
def test_memory_is_limited(pool: ChildPool) -> None:
    assert ask(pool, b"T", "memory") == "MemoryError"


def test_secrets_stay_with_the_server(pool: ChildPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    place, *names = ask(pool, b"W").split("\n")
    assert place == "/"
    assert "HF_TOKEN" not in names


def test_a_child_is_used_again(pool: ChildPool) -> None:
    assert ask(pool, b"E", "one") == "one"
    first = pid(pool)
    assert ask(pool, b"E", "x" * 1_000_000) == "x" * 1_000_000
    assert pid(pool) == first


def test_signals_to_the_group_do_not_end_it(pool: ChildPool) -> None:
    """Ctrl-C and a service manager reach every process; the server drains, and what it waits for has to go on."""
    for number in (signal.SIGINT, signal.SIGTERM):
        assert ask(pool, b"S", str(int(number))) == "alive"


def test_it_stands_back_behind_the_server() -> None:
    """In another session it would not: there Linux gives it the share of a whole session, however nice it is."""
    with closing(ChildPool("echo_child", idle=1, nice=3)) as pool:
        child = pid(pool)
        assert os.getpriority(os.PRIO_PROCESS, child) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3)
        assert os.getsid(child) == os.getsid(0)
        # A terminal's signals reach the server's group only.
        assert os.getpgid(child) == child


def test_a_crash_costs_one_job(pool: ChildPool) -> None:
    first = pid(pool)
    with pytest.raises(ChildDied, match="ended"):
        ask(pool, b"S", str(int(signal.SIGKILL)))
    assert ask(pool, b"E", "again") == "again"
    assert pid(pool) != first


def test_an_error_in_a_child_is_told(pool: ChildPool) -> None:
    with pytest.raises(ChildDied, match="RuntimeError: what it was"):
        ask(pool, b"X", "what it was")
    assert ask(pool, b"E", "again") == "again"


def test_a_child_that_died_while_it_was_idle_costs_nothing(pool: ChildPool) -> None:
    os.kill(pid(pool), signal.SIGKILL)
    time.sleep(0.1)
    assert ask(pool, b"E", "again") == "again"


def test_time_is_limited_by_the_kernel(pool: ChildPool) -> None:
    started = time.monotonic()
    with pytest.raises(ChildDied, match="ended"):
        ask(pool, b"C", "0.1")
    assert time.monotonic() - started < 30


def test_a_child_that_is_stuck_is_ended(pool: ChildPool) -> None:
    with pytest.raises(ChildDied, match="stuck"):
        ask(pool, b"Z", "60", timeout=0.2)
    assert ask(pool, b"E", "again") == "again"


def test_a_child_that_does_not_read_is_ended(pool: ChildPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "LONGEST_SILENCE", 0.3)
    os.kill(pid(pool), signal.SIGSTOP)
    with pytest.raises(ChildDied, match="stuck"):
        ask(pool, b"E", "x" * (1 << 20))


def test_a_message_that_is_too_long_is_not_read(pool: ChildPool) -> None:
    with pytest.raises(ChildDied, match="too long"):
        ask(pool, b"L")


def test_what_the_check_raises_ends_the_wait_and_the_child(pool: ChildPool) -> None:
    first = pid(pool)
    count = 0

    def check() -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyError

    started = time.monotonic()
    with pytest.raises(KeyError):
        ask(pool, b"Z", "60", check=check)
    assert time.monotonic() - started < 50
    assert pid(pool) != first


def test_many_at_once_have_a_child_each(pool: ChildPool) -> None:
    answers: list[str] = []
    threads = [threading.Thread(target=lambda i=i: answers.append(ask(pool, b"E", str(i)))) for i in range(6)]  # type: ignore[misc]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["0", "1", "2", "3", "4", "5"]


def test_closing_ends_what_runs(pool: ChildPool) -> None:
    outcome: list[Exception] = []

    def work() -> None:
        try:
            ask(pool, b"Z", "60")
        except ChildDied as error:
            outcome.append(error)

    with pool.child() as child:
        idle = child
    thread = threading.Thread(target=work)
    thread.start()
    while not pool._busy:
        time.sleep(0.01)
    pool.close()
    thread.join(60)
    assert outcome
    assert not idle.alive
    with pytest.raises(ChildFailedToStart):
        ask(pool, b"E")


def test_a_program_that_does_not_start() -> None:
    with closing(ChildPool("no_such_program_here", idle=1)) as pool, pytest.raises(ChildFailedToStart):
        pool.start()


def test_a_child_ends_with_those_who_know_it() -> None:
    child = ChildProcess("echo_child")
    number = child.pid
    del child
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def _in_a_daemon(results: Any) -> None:
    with closing(ChildPool("echo_child", idle=1)) as pool:
        results.put(ask(pool, b"E", "from a daemon"))


def test_a_daemonic_process_has_children_too() -> None:
    """The worker of ``hypercorn -w 1`` is one: `multiprocessing` would refuse."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=_in_a_daemon, args=(results,), daemon=True)
    process.start()
    assert results.get() == "from a daemon"
    process.join()
