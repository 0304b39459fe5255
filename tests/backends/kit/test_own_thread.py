"""Work on a thread that ends with it."""

from __future__ import annotations

import threading

import pytest

from ark_backends.kit.own_thread import apart


def test_gives_back_what_the_work_returns_and_its_thread_is_gone() -> None:
    thread = apart(threading.current_thread)
    assert thread is not threading.current_thread()
    assert not thread.is_alive()


def test_raises_what_the_work_raises() -> None:
    def fail() -> None:
        raise KeyError("from there")

    with pytest.raises(KeyError, match="from there"):
        apart(fail)


def test_an_end_of_the_program_is_told_too() -> None:
    def end() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        apart(end)
