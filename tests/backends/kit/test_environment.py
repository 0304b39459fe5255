"""What libraries read from the environment, on machines with and without a quota of processors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ark_backends.kit.environment import set_defaults

DEFAULTS = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256", "LRU_CACHE_CAPACITY": "256", "GOMP_SPINCOUNT": "10000"}


def defaults_of(
    monkeypatch: pytest.MonkeyPatch, root: Path, chosen: dict[str, str], quota: str = "max 100000"
) -> dict[str, str]:
    """What is set on a machine of eight processors with such a quota, where somebody has set what is `chosen`."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("0::/\n")
    (root / "sys/fs/cgroup").mkdir(parents=True)
    (root / "sys/fs/cgroup/cpu.max").write_text(quota)
    environ = dict(chosen)
    monkeypatch.setattr(os, "environ", environ)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    set_defaults(root)
    return environ


def test_what_nobody_has_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert defaults_of(monkeypatch, tmp_path, {}) == DEFAULTS


@pytest.mark.parametrize(("quota", "threads"), [("350000 100000", "3"), ("50000 100000", "1"), ("800000 100000", None)])
def test_threads_are_no_more_than_a_quota(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, threads: str | None
) -> None:
    expected = {} if threads is None else {"OMP_NUM_THREADS": threads}
    assert defaults_of(monkeypatch, tmp_path, {}, quota) == DEFAULTS | expected


def test_what_somebody_has_set_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    chosen = {
        "DNNL_PRIMITIVE_CACHE_CAPACITY": "7",
        "LRU_CACHE_CAPACITY": "8",
        "OMP_WAIT_POLICY": "active",
        "OMP_NUM_THREADS": "5",
    }
    assert defaults_of(monkeypatch, tmp_path, chosen, "100000 100000") == chosen
