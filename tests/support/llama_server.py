"""llama.cpp's own server on a free loopback port, in a process that a test may kill."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "chat" / "llama_server.py"


class LlamaServer:
    """A started server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, command: list[str]) -> None:
        self._process = process
        self._command = command
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, **body: object) -> dict[str, object]:
        """The engine's own answer, asked for directly."""
        reply = httpx.post(self.url + path, json=body, timeout=120).raise_for_status()
        found: dict[str, object] = reply.json()
        return found

    def busy(self) -> int:
        """Conversations that it computes."""
        return sum(slot["is_processing"] for slot in httpx.get(f"{self.url}/slots", timeout=60).json())

    def kill(self) -> None:
        """As ``kill -9`` does."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def start(self) -> None:
        """Once more, at the same port."""
        self._process = _started(self._command, self.port)


@contextmanager
def llama_server(
    weights: Path, *, slots: int = 4, slot_tokens: int = 2048, embeddings: bool = False
) -> Iterator[LlamaServer]:
    """Serve a GGUF. One thread: several wait for each other by spinning, which takes long where other programs run."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(PROGRAM), "--weights", str(weights), "--port", str(port), "--threads", "1"]
    command += ["--slots", str(slots), "--slot-tokens", str(slot_tokens)]
    command += ["--embeddings"] if embeddings else []
    server = LlamaServer(_started(command, port), port, command)
    try:
        yield server
    finally:
        server.go_on()
        server.kill()


def _started(command: list[str], port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while True:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200:
                return process
        except httpx.TransportError:
            pass
        assert process.poll() is None, "llama.cpp's server did not start"
        assert time.monotonic() < deadline, "llama.cpp's server did not get ready"
        time.sleep(0.05)
