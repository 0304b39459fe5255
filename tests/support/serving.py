"""``ark serve`` with misbehaving models, observed from outside."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from process import ECHO_TOML, EXAMPLES, Process, Program, launch

SUPPORT = Path(__file__).parent


class Server:
    """A started server process and a client of it."""

    def __init__(self, process: Process, client: httpx.Client) -> None:
        self.process = process
        self.client = client
        self.port = process.port
        self.pid = process.pid

    def ask(self, content: str = "hello", **more: Any) -> httpx.Response:
        body = {"model": "echo", "messages": [{"role": "user", "content": content}], **more}
        return self.client.post("/v1/chat/completions", json=body)

    def metric(self, name: str, **labels: str) -> float:
        """A metric's value, summed over the labels that are not given."""
        reply = self.client.get("/metrics")
        assert reply.status_code == 200, reply.text
        found = 0.0
        for line in reply.text.splitlines():
            match = re.fullmatch(r"(\S+?)(?:\{(.*)\})? (\S+)", line)
            if match is None or match[1] not in (f"ark:{name}", f"ark:{name}_total"):
                continue
            if all(f'{label}="{value}"' in (match[2] or "") for label, value in labels.items()):
                found += float(match[3])
        return found

    def lines(self) -> list[dict[str, Any]]:
        """ARK's own lines of the log."""
        return [json.loads(line) for line in self.process.log.splitlines() if line.startswith("{")]

    def complaints(self) -> list[dict[str, Any]]:
        """Its warnings and errors so far."""
        return [line for line in self.lines() if line["level"] in ("warning", "error")]

    def has_left(self, request: str) -> bool:
        """Whether the client of the request with this x-request-id was seen to have disconnected. A count of such
        clients would take in those of an earlier test whose lines come late."""
        return any(line["message"] == "client disconnected" and line["request_id"] == request for line in self.lines())

    def until(self, condition: Callable[[], bool], seconds: float = 180.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"it did not happen in time: {self.process.log[-3000:]}"
            time.sleep(0.02)


@contextmanager
def serving(
    directory: Path, config: str = ECHO_TOML, *, ready: bool = True, program: Program = "ark", **options: Any
) -> Iterator[Server]:
    """``ark serve`` or another server, once it is ready; without `ready`, once it has opened all models that it can. It
    can import the backends of tests/support."""
    paths = os.pathsep.join([str(EXAMPLES), str(SUPPORT)])
    environment = {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **options.pop("environment", {})}
    with launch(directory, config, program=program, environment=environment, **options) as process:
        process.listening(120)
        with httpx.Client(base_url=f"http://127.0.0.1:{process.port}", timeout=60) as client:
            server = Server(process, client)
            if ready:
                server.until(lambda: client.get("/ready").status_code == 200)
            else:
                server.until(lambda: "loading" not in states(server).values(), 240)
            yield server


def states(server: Server) -> dict[str, str]:
    """Models and aliases with their state."""
    return {one["id"]: one["ark"]["state"] for one in server.client.get("/v1/models").json()["data"]}
