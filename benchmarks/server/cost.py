"""Measure the server's own cost: CPU time for a streamed token and a whole reply, with an engine that costs nothing.

ARK runs under plain hypercorn and under its own ``ark serve``, which is on uvloop if that is installed. For comparison,
a minimal FastAPI application under uvicorn sends chunks of the same form. The figures are CPU seconds of the server's
process, so other programs on the machine disturb them little. Requests come one after another.

    python benchmarks/server/cost.py --peer /tmp/peers/bin/python --json result.json
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

CONFIG = """
[server]
log_level = "warning"

[[models]]
name = "free"
backend = "free_backend:FreeBackend"
"""

TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    options = arguments()
    servers = {
        "ark": [sys.executable, "-m", "hypercorn", "-w", "0", "ark.app:app", "--bind"],
        f"ark serve{', uvloop' * (find_spec('uvloop') is not None)}": [sys.executable, "-m", "ark", "serve", "--port"],
    }
    if options.uvloop:
        servers["ark, uvloop"] = [*servers["ark"][:-1], "-k", "uvloop", "--bind"]
    if options.peer:
        servers["fastapi"] = [options.peer, "-m", "uvicorn", "minimal:app", "--no-access-log", "--port"]
    found: dict[str, dict[str, float]] = {}
    for name, command in servers.items():
        with running(command) as (pid, port):
            found[name] = measure(pid, port, options)
    print("\n| CPU time | " + " | ".join(found) + " |\n|---" + "|---" * len(found) + "|")
    for what, unit in (
        ("token", "us per streamed token"),
        ("stream", "ms per stream"),
        ("reply", "ms per whole reply"),
    ):
        print(f"| {unit} | " + " | ".join(f"{one[what]:.3g}" for one in found.values()) + " |")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="a Python that has uvicorn and fastapi")
    parser.add_argument("--uvloop", action="store_true", help="ARK under hypercorn's uvloop worker as well")
    parser.add_argument("--tokens", type=int, default=1000, help="of a stream")
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--replies", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


@contextmanager
def running(command: list[str]) -> Iterator[tuple[int, int]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}" if command[-1] == "--bind" else str(port)
    paths = [str(HERE), str(ROOT), str(ROOT / "backends")]
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "ark.toml").write_text(CONFIG)
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
        process = subprocess.Popen([*command, address], cwd=directory, env=variables)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    with Client(port) as client:
                        client.ask(tokens=1, stream=False)
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            yield process.pid, port
        finally:
            process.terminate()
            process.wait(30)


def measure(pid: int, port: int, options: argparse.Namespace) -> dict[str, float]:
    """The medians of all rounds."""
    rounds = []
    for number in range(options.rounds + 1):
        replies = spent(pid, port, options.replies, tokens=1, stream=False)
        short = spent(pid, port, options.replies, tokens=1, stream=True)
        long = spent(pid, port, options.streams, tokens=options.tokens, stream=True)
        token = (long - short) / (options.tokens - 1)
        if number:  # the first warms up
            rounds.append({"token": 1e6 * token, "stream": 1e3 * short, "reply": 1e3 * replies})
    return {name: round(statistics.median(one[name] for one in rounds), 3) for name in rounds[0]}


def spent(pid: int, port: int, count: int, **asked: Any) -> float:
    """CPU seconds of a process for each call, over one connection, which servers close after a thousand calls."""
    before = cpu(pid)
    with Client(port) as client:
        for _ in range(count):
            client.ask(**asked)
    return (cpu(pid) - before) / count


def cpu(pid: int) -> float:
    # Precise if the kernel reports it, and in its ticks otherwise.
    try:
        return (
            sum(int(Path(task, "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())
            / 1e9
        )
    except OSError:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS


class Client:
    """One kept connection, with as little client code as possible."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, *, tokens: int, stream: bool) -> None:
        messages = [{"role": "user", "content": "Say something, please."}]
        body = json.dumps({"model": "free", "messages": messages, "max_tokens": tokens, "stream": stream}).encode()
        self._socket.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"accept: */*\r\nuser-agent: cost\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, rest = received.partition(b"\r\n\r\n")
        if b" 200" not in head.split(b"\r\n", 1)[0]:
            raise OSError(head.decode("latin-1"))
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if lengths:
            left = int(lengths[0].split(b":")[1]) - len(rest)
            while left > 0:
                left -= len(self._more())
            return
        end = rest[-8:]
        # The last chunk of a chunked body.
        while not end.endswith(b"0\r\n\r\n"):
            end = (end + self._more())[-8:]

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 16)
        if not data:
            raise OSError("the server closed the connection")
        return data


if __name__ == "__main__":
    main()
