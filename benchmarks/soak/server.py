"""The server under soak: a process of its own, its configuration, and measurements from outside."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import tomli_w
from bad import BODY_LIMIT, BODY_TIMEOUT, BROKEN
from fixture_models import with_tiny_chat
from process import Process, launch

ADVERSARY = "mallory"
"""The key of those who send what was made to harm."""

KEYS = ("left", "right")
"""Two keys, so that a leak from one to the other would be seen."""

KV_BYTES = 64_000_000
"""Small, so that the KV cache is dropped and computed again all the time."""

INTERVAL = 5.0
"""Seconds between two samples."""

_METRIC = re.compile(r"^(ark:[a-z_]+)(?:\{[^}]*\})? ([0-9.e+-]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Sample:
    """One sample of the process."""

    seconds: float
    rss: int
    """Bytes of resident memory."""
    files: int
    threads: int


def configuration(directory: Path) -> str:
    """The models of the tests, two keys, a model that cannot be opened, and limits that the
    soak reaches: sessions that expire, state that is dropped, bodies that are too large or slow."""
    models = [_table(model) for model in with_tiny_chat()]
    for model in models:
        if model["task"] == "chat":
            model["engine"]["kv_bytes"] = KV_BYTES
    models.append({"name": BROKEN, "path": str(directory / "nothing"), "task": "chat"})
    config = {
        "server": {"load_wait": 60.0},
        "limits": {"body_bytes": BODY_LIMIT, "body_timeout": BODY_TIMEOUT, "write_timeout": 10.0},
        # What is left behind expires within the warm-up, so that the number of sessions settles.
        "sessions": {"idle_timeout": 60.0, "path": str(directory / "sessions.sqlite")},
        "keys": [{"name": key, "sha256": hashlib.sha256(key.encode()).hexdigest()} for key in (*KEYS, ADVERSARY)],
        "models": models,
    }
    return tomli_w.dumps(config)


def _table(model: Any) -> dict[str, Any]:
    table = msgspec.to_builtins(model)
    return {name: _without_none(value) for name, value in table.items() if value not in (None, (), [], {})}


def _without_none(value: Any) -> Any:
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


@contextmanager
def started(directory: Path, threads: int) -> Iterator[Process]:
    """``ark serve`` with all models but the broken one open."""
    environment = {"OMP_NUM_THREADS": str(threads)}
    config = configuration(directory)
    with launch(directory, config, program="ark", environment=environment) as process:
        process.listening(120)
        deadline = time.monotonic() + 300
        headers = {"authorization": f"Bearer {KEYS[0]}"}
        while True:
            listed = httpx.get(f"http://127.0.0.1:{process.port}/v1/models", headers=headers, timeout=60).json()["data"]
            states = {one["id"]: one["ark"]["state"] for one in listed}
            if "loading" not in states.values():
                break
            if time.monotonic() > deadline:
                raise TimeoutError(process.log)
            time.sleep(0.2)
        failed = {name for name, state in states.items() if state != "ready"}
        if failed != {BROKEN}:
            raise RuntimeError(f"failed: {failed}\n{process.log}")
        yield process


def transcription_model(url: str) -> str | None:
    """The name of a served model that transcribes, if there is one."""
    listed = httpx.get(f"{url}/v1/models", headers={"authorization": f"Bearer {KEYS[0]}"}, timeout=60).json()["data"]
    return next((one["id"] for one in listed if one["ark"]["task"] == "transcription"), None)


class Watch:
    """Samples of the process, one every `INTERVAL` seconds until cancelled."""

    def __init__(self, pid: int) -> None:
        self.samples: list[Sample] = []
        self._process = psutil.Process(pid)
        self._begun = time.monotonic()

    def look(self) -> Sample:
        process = self._process
        with process.oneshot():
            sample = Sample(
                round(time.monotonic() - self._begun, 1),
                process.memory_info().rss,
                process.num_fds(),
                process.num_threads(),
            )
        self.samples.append(sample)
        return sample

    async def run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(INTERVAL)


async def metrics(url: str) -> dict[str, float]:
    """Every metric, summed over its labels."""
    async with httpx.AsyncClient() as http:
        reply = await http.get(f"{url}/metrics", headers={"authorization": f"Bearer {KEYS[0]}"}, timeout=60)
    sums: dict[str, float] = {}
    for name, value in _METRIC.findall(reply.text):
        sums[name] = sums.get(name, 0.0) + float(value)
    return sums


async def idle(url: str, seconds: float = 60.0) -> dict[str, float]:
    """The metrics once nothing runs or waits, or after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        found = await metrics(url)
        busy = found["ark:num_requests_running"] + found["ark:num_requests_waiting"] + found["ark:requests_in_hand"]
        if not busy or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.2)
