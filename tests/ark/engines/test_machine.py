"""Processors and memory, with the limits of control groups as files of a directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ark.engines import machine

GIB = 1 << 30
MEMINFO = "MemTotal:       67108864 kB\nMemFree:  100 kB\nMemAvailable:   33554432 kB\n"
NO_LIMIT = str(0x7FFFFFFFFFFFF000)
"""What version 1 says."""


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 processors."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)


def system(root: Path, groups: str, files: Mapping[str, str] | None = None) -> Path:
    """A file system with these control groups, and 32 GiB free."""
    written = {"proc/self/cgroup": groups, "proc/meminfo": MEMINFO}
    written |= {f"sys/fs/cgroup/{name}": text for name, text in (files or {}).items()}
    for name, text in written.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def memory(limit: int, used: int, cached: int, place: str = "") -> dict[str, str]:
    return {
        f"{place}memory.max": f"{limit}\n",
        f"{place}memory.current": f"{used}\n",
        f"{place}memory.stat": f"anon {used - cached}\nactive_file 7\ninactive_file {cached}\n",
    }


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("limit", "count"),
    [
        ("max 100000", 64),
        ("400000 100000", 4),
        ("350000 100000", 3),
        ("50000 100000", 1),
        ("25600000 100000", 64),
        ("broken", 64),
        ("", 64),
        ("1 0", 64),
    ],
)
def test_processors_of_a_quota(tmp_path: Path, limit: str, count: int) -> None:
    assert machine.processors(system(tmp_path, "0::/\n", {"cpu.max": limit})) == count


@pytest.mark.usefixtures("many")
def test_the_smallest_quota_counts(tmp_path: Path) -> None:
    """As of a service with a limit, in a slice that has one."""
    files = {"cpu.max": "max 100000", "a.slice/cpu.max": "600000 100000", "a.slice/b.service/cpu.max": "800000 100000"}
    assert machine.processors(system(tmp_path, "0::/a.slice/b.service\n", files)) == 6
    assert machine.processors(system(tmp_path, "0::/c.slice\n", files)) == 64


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("path", ["/", "/docker/0123", "/../../outside"])
def test_a_path_of_outside_is_not_needed(tmp_path: Path, path: str) -> None:
    files = {"cpu.max": "200000 100000", **memory(3 * GIB, GIB, 0)}
    root = system(tmp_path, f"0::{path}\n", files)
    assert (machine.processors(root), machine.free_memory(root)) == (2, 2 * GIB)


@pytest.mark.usefixtures("many")
def test_version_1(tmp_path: Path) -> None:
    groups = "4:memory:/docker/0123\n3:cpu,cpuacct:/docker/0123\n1:name=systemd:/\n0::/\n"
    files = {
        "cpu/cpu.cfs_quota_us": "-1\n",
        "cpu/cpu.cfs_period_us": "100000\n",
        "cpu/docker/0123/cpu.cfs_quota_us": "150000\n",
        "cpu/docker/0123/cpu.cfs_period_us": "50000\n",
        "memory/memory.limit_in_bytes": NO_LIMIT,
        "memory/memory.usage_in_bytes": "5",
        "memory/docker/0123/memory.limit_in_bytes": str(8 * GIB),
        "memory/docker/0123/memory.usage_in_bytes": str(6 * GIB),
        "memory/docker/0123/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB}\n",
    }
    root = system(tmp_path, groups, files)
    assert (machine.processors(root), machine.free_memory(root)) == (3, 3 * GIB)


def test_memory_of_a_limit(tmp_path: Path) -> None:
    """What files were read into gives way."""
    assert machine.free_memory(system(tmp_path, "0::/\n", memory(8 * GIB, 6 * GIB, 5 * GIB))) == 7 * GIB


def test_memory_without_a_limit(tmp_path: Path) -> None:
    assert machine.free_memory(system(tmp_path, "0::/\n", {"memory.max": "max", "memory.current": "5"})) == 32 * GIB
    assert machine.free_memory(system(tmp_path, "0::/\n", memory(128 * GIB, 0, 0))) == 32 * GIB


def test_a_limit_that_is_passed_leaves_nothing(tmp_path: Path) -> None:
    assert machine.free_memory(system(tmp_path, "0::/\n", memory(GIB, 2 * GIB, 0))) == 0


@pytest.mark.usefixtures("many")
def test_a_system_that_says_nothing(tmp_path: Path) -> None:
    assert machine.processors(tmp_path) == 64
    assert machine.free_memory(tmp_path) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def test_this_machine() -> None:
    assert 1 <= machine.processors() <= (os.cpu_count() or 1)
    assert 0 < machine.free_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


odd = st.text("0123456789 max-.:\n/cpu", max_size=20)


@given(odd, odd | st.just("0::/"), st.sampled_from(["cpu.max", "memory.max", "memory.stat"]))
def test_files_that_say_something_else(
    tmp_path_factory: pytest.TempPathFactory, text: str, groups: str, name: str
) -> None:
    root = system(tmp_path_factory.mktemp("odd"), groups, {"memory.current": "1", name: text})
    assert machine.processors(root) >= 1
    assert machine.free_memory(root) >= 0
