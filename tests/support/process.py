"""A real server in a process of its own: hypercorn's command, or ``ark serve``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import httpx

Program = Literal["ark", "hypercorn", "uvicorn", "granian"]

EXAMPLES = Path(__file__).parents[2] / "examples"

ECHO_TOML = """
[[models]]
name = "echo"
backend = "echo_backend:EchoBackend"
"""


class Process:
    """A started server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._process = process
        self._log = log
        self.port = port
        self.pid = process.pid

    @property
    def log(self) -> str:
        """Standard output and standard error. While the process runs, only whole lines, because the last one may still
        be being written."""
        ended = self._process.poll() is not None
        written = self._log.read_bytes()
        return (written if ended else written[: written.rfind(b"\n") + 1]).decode()

    def terminate(self, how: signal.Signals = signal.SIGTERM) -> None:
        self._process.send_signal(how)

    def wait(self, seconds: float = 45.0) -> int:
        """The exit status."""
        return self._process.wait(seconds)

    def asked(self, seconds: float = 120.0) -> None:
        """Wait until it works on a request."""
        deadline = time.monotonic() + seconds
        while "\nark:requests_in_hand 0.0" in httpx.get(f"http://127.0.0.1:{self.port}/metrics", timeout=60).text:
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def listening(self, seconds: float = 120.0) -> None:
        """Wait until the port answers."""
        deadline = time.monotonic() + seconds
        while True:
            assert self._process.poll() is None, self.log
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, self.log
                time.sleep(0.05)
            else:
                return


@contextmanager
def launch(
    directory: Path,
    config: str = ECHO_TOML,
    *,
    app: str = "ark.app:app",
    graceful: int = 10,
    environment: Mapping[str, str] | None = None,
    program: Program = "hypercorn",
    arguments: Sequence[str] = (),
) -> Iterator[Process]:
    """Start ``ark serve``, or `app` in another ASGI server, on a free loopback port, with `config` as the ark.toml of
    its working directory. `graceful` is hypercorn's; `arguments` are further ones."""
    (directory / "ark.toml").write_text(config, encoding="utf-8")
    command = {
        "ark": ["ark", "serve"],
        "hypercorn": ["hypercorn", "-w", "0", "--graceful-timeout", str(graceful), app],
        "uvicorn": ["uvicorn", app],
        "granian": ["granian", "--interface", "asgi", app],
    }[program]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("ARK_")}
    variables |= {"PYTHONPATH": f"{EXAMPLES}{os.pathsep}{directory}", **(environment or {})}
    if outer := os.environ.get("PYTHONPATH"):
        # If the tests run on another tree than the installed one, so does the server.
        paths = [os.path.abspath(path) for path in outer.split(os.pathsep)]
        variables["PYTHONPATH"] = os.pathsep.join([variables["PYTHONPATH"], *paths])
    option: Literal["--bind", "--port"] = "--bind" if program in ("ark", "hypercorn") else "--port"
    with started([sys.executable, "-m", *command, *arguments], directory, variables, option=option) as server:
        yield server


@contextmanager
def started(
    command: Sequence[str],
    directory: Path,
    variables: Mapping[str, str],
    *,
    option: Literal["--bind", "--port"] = "--bind",
) -> Iterator[Process]:
    """Start the command of a server in a working directory, and end it. `option` names its free loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, option, f"127.0.0.1:{port}" if option == "--bind" else str(port)],
            cwd=directory,
            env=variables,
            stdout=output,
            stderr=output,
        )
    try:
        yield Process(process, port, log)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)
