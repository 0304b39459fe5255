"""Memory that is free, and given back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from functools import partial

import anyio
import psutil
import pytest
from asgi_client import ECHO, running, until

from ark import services
from ark.process import memory

GLIBC = "CS_GNU_LIBC_VERSION" in os.confstr_names and bool(os.confstr("CS_GNU_LIBC_VERSION"))


@pytest.mark.skipif(not GLIBC, reason="another C library")
def test_what_lies_free_between_what_is_used_is_given_back() -> None:
    def resident() -> int:
        return int(psutil.Process().memory_info().rss)

    blocks = [b"x" * 100_000 for _ in range(1000)]
    used = blocks[::10]
    del blocks
    before = resident()
    memory.trim()
    assert before - resident() > 50_000_000
    assert all(block[-1] == ord("x") for block in used)


@pytest.mark.skipif(not GLIBC, reason="another C library")
@pytest.mark.parametrize(("kept", "variables"), [(True, {}), (False, {}), (False, {"MALLOC_TRIM_THRESHOLD_": "65536"})])
def test_memory_that_comes_and_goes_is_kept_until_then(kept: bool, variables: dict[str, str]) -> None:
    # In a process of its own, as it is for the whole of one.
    script = f"""
import ctypes, resource
from ark.process import memory
memory.tune_allocator() if {kept or bool(variables)} else None
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
def come_and_go():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    # As the tensors of a step do: several at a time, of which each is larger than the one before.
    blocks = [(libc.malloc(size), size) for size in range(2 << 20, 10 << 20, 2 << 20)]
    for block, size in blocks:
        ctypes.memset(block, 1, size)
    for block, _ in blocks:
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
come_and_go()
print(min(come_and_go() for _ in range(5)))
memory.trim()
print(come_and_go())
"""
    variables = {
        name: value for name, value in os.environ.items() if name not in memory.THRESHOLD_VARIABLES
    } | variables
    run = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True)
    again, after = map(int, run.stdout.split())
    assert (again < 500) is kept
    assert after > 2500


@pytest.mark.skipif(not GLIBC, reason="another C library")
@pytest.mark.parametrize(("variables", "most"), [({}, 2), ({"MALLOC_ARENA_MAX": "4"}, 4)])
def test_threads_share_their_heaps(variables: dict[str, str], most: int) -> None:
    script = """
import ctypes, sys, tempfile, threading
from ark.process import memory
memory.tune_allocator()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.fopen.restype = ctypes.c_void_p, ctypes.c_void_p
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]
met = threading.Barrier(12)
def take():
    libc.malloc(100_000)
    met.wait()
threads = [threading.Thread(target=take) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
with tempfile.NamedTemporaryFile() as file:
    out = libc.fopen(file.name.encode(), b"w")
    libc.malloc_info(0, out)
    libc.fclose(out)
    print(file.read().count(b"<heap nr="))
"""
    variables = {name: value for name, value in os.environ.items() if name not in memory.ARENA_VARIABLES} | variables
    run = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True)
    assert int(run.stdout) == most


@pytest.mark.anyio
async def test_a_server_keeps_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr(memory, "tune_allocator", lambda: called.append(True))
    async with running():
        assert called == [True]


@pytest.mark.anyio
async def test_a_server_does_it_now_and_then_in_a_thread_while_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(services, "SWEEP_INTERVAL", 0.01)
    monkeypatch.setattr(memory, "trim", lambda: threads.append(threading.get_ident()))
    table = {**ECHO, "name": "slow", "engine": {"tokens_per_second": 5}}
    async with running(models=[table]) as client, anyio.create_task_group() as tasks:
        await until(lambda: len(threads) >= 3)
        assert threading.get_ident() not in threads
        limiter = client.app.services.limiter
        tasks.start_soon(partial(client.chat, "0123456789", model="slow"))
        await until(lambda: limiter.running == 1)
        await anyio.sleep(0.1)
        before = len(threads)
        await anyio.sleep(0.3)
        assert limiter.running == 1
        assert len(threads) == before
