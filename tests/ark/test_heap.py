"""Memory that is free, and given back."""

from __future__ import annotations

import os
import threading

import psutil
import pytest
from asgi_client import running, until

from ark import heap, services

GLIBC = "CS_GNU_LIBC_VERSION" in os.confstr_names and bool(os.confstr("CS_GNU_LIBC_VERSION"))


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_what_lies_free_between_what_is_used_is_given_back() -> None:
    def resident() -> int:
        return int(psutil.Process().memory_info().rss)

    blocks = [b"x" * 100_000 for _ in range(1000)]
    used = blocks[::10]
    del blocks
    before = resident()
    heap.give_back()
    assert before - resident() > 50_000_000
    assert all(block[-1] == ord("x") for block in used)


@pytest.mark.anyio
async def test_a_server_does_it_now_and_then_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(services, "SWEEP_INTERVAL", 0.01)
    monkeypatch.setattr(heap, "give_back", lambda: threads.append(threading.get_ident()))
    async with running():
        await until(lambda: len(threads) >= 3)
    assert threading.get_ident() not in threads
