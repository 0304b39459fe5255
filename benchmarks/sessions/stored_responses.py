"""Watch a server's memory while responses are stored, continued and deleted, with an engine that costs nothing.

Conversations of four responses, continued by id, are made and deleted in a random order, so that some are deleted in
front of others that still need their tokens. At most `--alive` are there at a time. The resident memory of `ark serve`
is printed as it goes; it grows until the sessions behind the responses have reached their limits, and must then stay.

    python benchmarks/sessions/stored_responses.py --responses 100000 --on-disk --json result.json
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support")]

import psutil
from process import launch

CONFIG = """
[server]
log_level = "warning"

[sessions]
max_sessions = {sessions}
{path}

[[models]]
name = "free"
backend = "free_backend:FreeBackend"
"""
TURNS = 4
"""Responses of one conversation."""
CALLS = 500
"""Calls on one connection; servers close one after a thousand."""


def main() -> None:
    options = read_arguments()
    with tempfile.TemporaryDirectory() as folder:
        path = 'path = "sessions.sqlite"' if options.on_disk else ""
        # Sessions are no matter here, but each response leaves one behind: few enough that they soon are as many.
        config = CONFIG.format(sessions=options.alive, path=path)
        places = {"PYTHONPATH": f"{ROOT / 'benchmarks' / 'server'}:{ROOT}:{ROOT / 'backends'}"}
        with launch(Path(folder), config, program="ark", environment=places) as server:
            server.listening(60)
            samples = run(server.port, psutil.Process(server.pid), options)
            if options.on_disk:
                print(f"{(Path(folder) / 'sessions.sqlite').stat().st_size / 2**20:.1f} MiB on disk")
    found = summarise(samples)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps({"samples": samples, "summary": found}, indent=1) + "\n")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--responses", type=int, default=100_000)
    parser.add_argument("--alive", type=int, default=1_000, help="conversations that are there at a time")
    parser.add_argument("--every", type=int, default=10_000, help="responses between two samples")
    parser.add_argument("--on-disk", action="store_true", help="with sessions.path")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


class Client:
    """Calls over connections that are renewed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._calls = 0
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def ask(self, method: str, path: str, body: Any = None) -> bytes:
        self._calls += 1
        if self._calls % CALLS == 0:
            self._connection.close()
        data = None if body is None else json.dumps(body).encode()
        self._connection.request(method, f"/v1{path}", data, {"content-type": "application/json"})
        reply = self._connection.getresponse()
        text = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"{method} {path}: {reply.status} {text!r}")
        return text

    def respond(self, text: str, previous: str | None, *, stream: bool) -> str:
        """The id of a new response."""
        body = {"model": "free", "input": text, "max_output_tokens": 16, "stream": stream}
        if previous is not None:
            body["previous_response_id"] = previous
        reply = self.ask("POST", "/responses", body)
        if stream:
            reply = reply.rpartition(b"event: response.incomplete\ndata: ")[2].partition(b"\n")[0]
            return str(json.loads(reply)["response"]["id"])
        return str(json.loads(reply)["id"])


def run(port: int, process: psutil.Process, options: argparse.Namespace) -> list[dict[str, float]]:
    client, draw = Client(port), random.Random(1)
    samples: list[dict[str, float]] = []
    alive: list[str] = []
    made = 0
    begun = time.monotonic()

    def sample() -> str:
        found = {"responses": made, "rss": process.memory_info().rss / 2**20, "seconds": time.monotonic() - begun}
        samples.append(found)
        return f"{found['rss']:.1f} MiB, {found['seconds']:.0f} s"

    for number in itertools.count():
        previous = None
        for turn in range(TURNS):
            previous = client.respond(f"conversation {number}, turn {turn}", previous, stream=made % 2 == 1)
            alive.append(previous)
            made += 1
            if made % options.every == 0:
                print(f"{made} responses: {sample()}", flush=True)
        while len(alive) > options.alive * TURNS or (made >= options.responses and alive):
            place = draw.randrange(len(alive))
            alive[place], alive[-1] = alive[-1], alive[place]
            client.ask("DELETE", f"/responses/{alive.pop()}")
        if made >= options.responses:
            break
    print(f"all {made} deleted: {sample()}")
    return samples


def summarise(samples: list[dict[str, float]]) -> dict[str, float]:
    """The first fifth warms up."""
    made = [sample for sample in samples[:-1] if sample["responses"] >= samples[-1]["responses"] / 5]
    grown = statistics.linear_regression([one["responses"] for one in made], [one["rss"] for one in made]).slope
    return {
        "first_mib": round(made[0]["rss"], 1),
        "last_mib": round(made[-1]["rss"], 1),
        "bytes_per_response": round(grown * 2**20, 1),
    }


if __name__ == "__main__":
    main()
