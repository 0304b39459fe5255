"""The processors and the memory that this process may use. A container's control groups leave less than there is.

The files and their units are Linux': docs.kernel.org/admin-guide/cgroup-v2.html and cgroup-v1/memory.html. `root` is
where the file system begins.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")

UNKNOWN = 4 << 30
"""Bytes of free memory assumed on a system that does not tell."""


def bound() -> int:
    """Processors that the process is bound to."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processors(root: Path = ROOT) -> int:
    """Processors that may be kept busy: those that the process is bound to, or the whole ones of a smaller quota.

    Once a group has used up its quota, the kernel stops all its threads for the rest of each tenth of a second. More
    threads than that compute nothing more, and wait for those that were stopped.
    """
    quotas = [int(quota) for group in _groups("cpu", root) if (quota := _quota(group)) is not None]
    return max(1, min([bound(), *quotas]))


def free_memory(root: Path = ROOT) -> int:
    """Bytes of main memory that can still be taken; half of all memory where the system does not tell."""
    limits = [left for group in _groups("memory", root) if (left := _memory_left(group)) is not None]
    available = _numbers(root / "proc/meminfo").get("MemAvailable:")
    if available is not None:
        # In units of 1024 bytes, whatever the file calls them.
        limits.append(available * 1024)
    if limits:
        return min(limits)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return UNKNOWN


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """Directories of the control groups of the process, as far as they can be seen. Each limits it."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        mounted = root / "sys/fs/cgroup" / (controller if controllers else "")
        # Inside a container the path may be that of outside, and what is mounted is the container's own group.
        parts = [] if ".." in path.split("/") else path.strip("/").split("/")
        for count in range(len(parts) + 1):
            yield mounted.joinpath(*parts[:count])


def _quota(group: Path) -> float | None:
    """Processors' time per time, None where there is no limit."""
    try:
        if limit := _text(group / "cpu.max"):
            used, period = limit.split()
        else:
            used, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
        quota = int(used) / int(period)
    except (ValueError, ZeroDivisionError):
        # Version 2 says "max", and a group without this controller nothing.
        return None
    return quota if quota > 0 else None


def _memory_left(group: Path) -> int | None:
    """Bytes that a group's limit leaves, None where there is no limit."""
    version_2 = ("memory.max", "memory.current", "inactive_file")
    version_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    for limit, used, cached in (version_2, version_1):
        try:
            left = int(_text(group / limit)) - int(_text(group / used))
        except ValueError:
            continue
        # The cache of files counts as used, and gives way when memory is needed.
        return max(0, left + _numbers(group / "memory.stat").get(cached, 0))
    return None


def _numbers(file: Path) -> dict[str, int]:
    """The number behind each line's first word."""
    words = (line.split() for line in _text(file).splitlines())
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdecimal()}


def _text(file: Path) -> str:
    """A file's content, empty where it cannot be read."""
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
