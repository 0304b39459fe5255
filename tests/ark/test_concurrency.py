"""Work in threads: whose turn it is."""

from __future__ import annotations

import threading
from functools import partial

import anyio
import pytest

from ark.concurrency import INLINE, TURNS, Places, run_in_thread_if_large, working_for

pytestmark = pytest.mark.anyio


async def test_large_work_of_one_client_does_not_keep_another_waiting() -> None:
    gate, done = threading.Event(), list[str]()

    async def work(client: str, size: int = INLINE + 1) -> None:
        working_for.set(client)
        await run_in_thread_if_large(size, gate.wait if client == "many" else partial(done.append, client))

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            # As many as there are threads, and more.
            tasks.start_soon(work, "many")
        await anyio.wait_all_tasks_blocked()
        try:
            with anyio.fail_after(20):
                await work("other")
                await work("small", INLINE)
        finally:
            gate.set()
    assert done == ["other", "small"]


async def test_large_work_is_done_side_by_side_but_not_without_end() -> None:
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(TURNS)

    def meet() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(20)
        with lock:
            running -= 1

    async def work(client: str) -> None:
        working_for.set(client)
        await run_in_thread_if_large(INLINE + 1, meet)

    async with anyio.create_task_group() as tasks:
        for number in range(4 * TURNS):
            tasks.start_soon(work, str(number))
    assert most == TURNS


async def test_places_go_round() -> None:
    places, order = Places(2), list[str]()
    gates = {name: anyio.Event() for name in ("a1", "a2", "a3", "b1", "b2", "c1")}

    async def work(name: str) -> None:
        async with places.place(name[0]):
            order.append(name)
            await gates[name].wait()

    async with anyio.create_task_group() as tasks:
        for name in ("a1", "a2", "a3", "b1", "b2", "c1"):
            tasks.start_soon(work, name)
            await anyio.wait_all_tasks_blocked()
        # One of an owner at a time, though there is a place for two.
        assert order == ["a1", "b1"]
        for name, following in [("a1", "a2"), ("a2", "c1"), ("c1", "a3"), ("b1", "b2")]:
            gates[name].set()
            await anyio.wait_all_tasks_blocked()
            assert order[-1] == following
        for gate in gates.values():
            gate.set()
    assert len(places) == 0


async def test_places_are_given_on_by_those_who_are_cancelled_with_one() -> None:
    places = Places(1)
    reached = list[str]()

    async def work(name: str, scope: anyio.CancelScope) -> None:
        with scope:
            async with places.place(name):
                reached.append(name)

    scopes = [anyio.CancelScope() for _ in range(2)]
    async with anyio.create_task_group() as tasks:
        async with places.place("first"):
            for name, scope in zip(("second", "third"), scopes, strict=True):
                tasks.start_soon(work, name, scope)
                await anyio.wait_all_tasks_blocked()
        # The place is the second's by now, who has not seen it yet.
        scopes[0].cancel()
    assert reached[-1] == "third"
    assert len(places) == 0
