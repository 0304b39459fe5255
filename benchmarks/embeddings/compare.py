"""Compare texts per second and latency of ARK over HTTP with other systems that serve the same weights.

    python benchmarks/embeddings/compare.py [--infinity PATH/TO/infinity_emb] [--peer NAME=URL] [--json FILE]

All systems are loaded on one machine and take turns in one run: ARK's server; FlagEmbedding's and
sentence-transformers' `encode`, called for each request without HTTP; Infinity's server, if its program is given; and
any other server that speaks OpenAI's API. Every request has one text of random words. The vectors are compared first.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import json
import math
import os
import platform
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tests" / "support")]

from load import HTTPClient, Result, closed_loop
from texts import LENGTHS, MAX_LENGTH, make_texts, whole_length

CLIENTS = (1, 8, 32)
START = 240
"""Seconds that a system may take to start: FlagEmbedding alone imports for 10."""

Measure = Callable[[list[str], int, float], Awaitable[Result]]


@dataclasses.dataclass(frozen=True)
class System:
    """One of the systems to compare."""

    name: str
    measure: Measure
    vector: Sequence[float]
    """Of "hello world"."""


@contextlib.contextmanager
def process(command: Sequence[str], **more: object) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(command, text=True, **more)  # type: ignore[call-overload]
    try:
        yield started
    finally:
        started.terminate()
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()


@contextlib.contextmanager
def direct(name: str, library: str, model: Path) -> Iterator[System]:
    command = [sys.executable, str(HERE / "direct.py"), library, str(model)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with process(command, **pipes) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        stdin, stdout = child.stdin, child.stdout

        async def measure(texts: list[str], clients: int, seconds: float) -> Result:
            print(json.dumps({"texts": texts, "clients": clients, "seconds": seconds}), file=stdin, flush=True)
            return Result(**json.loads(await asyncio.to_thread(stdout.readline)))

        yield System(name, measure, json.loads(stdout.readline()))


@contextlib.contextmanager
def server(name: str, url: str, model: str, command: Sequence[str] = (), **env: str) -> Iterator[System]:
    """A server at `url`, which `command` starts if it is not running."""
    with contextlib.ExitStack() as stack:
        child = None
        if command:
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": os.environ | env}
            child = stack.enter_context(process(command, **quiet))
        client = HTTPClient(url, model)

        async def measure(texts: list[str], clients: int, seconds: float) -> Result:
            return await closed_loop(client, texts, clients, seconds)

        yield System(name, measure, _first_vector(url, model, child))


def _first_vector(url: str, model: str, child: subprocess.Popen[str] | None) -> Sequence[float]:
    """Requested until the server answers."""
    body = json.dumps({"model": model, "input": "hello world", "encoding_format": "base64"}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    deadline = time.monotonic() + START
    while True:
        try:
            with urllib.request.urlopen(request, timeout=START) as reply:
                data = base64.b64decode(json.load(reply)["data"][0]["embedding"])
            return struct.unpack(f"<{len(data) // 4}f", data)
        except OSError as error:
            if time.monotonic() > deadline or (child is not None and child.poll() is not None):
                raise RuntimeError(f"{url} does not answer: {error}") from error
            time.sleep(0.5)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def systems(stack: contextlib.ExitStack, args: argparse.Namespace, model: Path, folder: Path) -> list[System]:
    """All of them, started."""
    port = free_port()
    config = folder / "ark.toml"
    config.write_text(
        '[server]\nlog_level = "warning"\n\n[[models]]\nname = "minilm"\ntask = "embedding"\n'
        f'path = "{model}"\ncontext_length = {MAX_LENGTH}\n'
    )
    hypercorn = [sys.executable, "-m", "hypercorn", "-w", "0", "--bind", f"127.0.0.1:{port}", "ark.app:app"]
    ark = server("ARK", f"http://127.0.0.1:{port}/v1/embeddings", "minilm", hypercorn, ARK_CONFIG=str(config))
    found = [ark, direct("FlagEmbedding, per call", "flag", model), direct("sentence-transformers", "st", model)]
    if args.infinity is not None:
        port = free_port()
        command = [args.infinity, "v2", "--model-id", str(model), "--served-model-name", "minilm", "--engine", "torch"]
        command += ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
        # Both are on by default: one needs an old transformers, the other makes the start long.
        command += ["--no-bettertransformer", "--no-model-warmup", "--log-level", "error"]
        url = f"http://127.0.0.1:{port}/embeddings"
        found.append(server("Infinity", url, "minilm", command, HF_HUB_OFFLINE="1", DO_NOT_TRACK="1"))
    for peer in args.peer:
        name, url = peer.split("=", 1)
        found.append(server(name, url, "minilm"))
    return [stack.enter_context(system) for system in found]


def check(all_systems: Sequence[System]) -> None:
    """Check that every system computes the same vectors."""
    first = all_systems[0].vector
    for system in all_systems[1:]:
        scale = math.hypot(*first) * math.hypot(*system.vector)
        likeness = sum(a * b for a, b in zip(first, system.vector, strict=True)) / scale
        if likeness < 0.9999:
            raise RuntimeError(f"{system.name} computes other vectors than {all_systems[0].name}: {likeness:.4f}")


async def measure(all_systems: Sequence[System], args: argparse.Namespace, vocabulary: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    print("| texts | clients | system | texts/s | p50 ms | p99 ms |\n|---|---|---|---|---|---|")
    for kind in args.texts:
        texts = make_texts(vocabulary, kind, 512)
        for clients in args.clients:
            for system in all_systems:
                seen = await system.measure(texts, clients, args.seconds)
                low, high = LENGTHS[kind]
                rows.append({"texts": kind, "clients": clients, "system": system.name, **dataclasses.asdict(seen)})
                cells = f"{kind}, {low}-{high} tokens | {clients} | {system.name}"
                print(f"| {cells} | {seen.texts_per_second:.1f} | {seen.p50:.1f} | {seen.p99:.1f} |", flush=True)
    return rows


def compared(rows: Sequence[dict[str, object]]) -> list[str]:
    """Print ARK's figures beside those of each other system."""
    by_place = {(row["texts"], row["clients"], row["system"]): row for row in rows}
    lines = []
    for (kind, clients, name), row in by_place.items():
        ark = by_place[kind, clients, "ARK"]
        if name != "ARK":
            more = float(str(ark["texts_per_second"])) / float(str(row["texts_per_second"]))
            longer = float(str(ark["p50"])) / float(str(row["p50"]))
            lines.append(f"{kind}, {clients} clients, ARK to {name}: {more:.2f}x texts/s, {longer:.2f}x p50")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="of one measurement")
    parser.add_argument("--clients", type=int, nargs="+", default=CLIENTS)
    parser.add_argument("--texts", nargs="+", choices=LENGTHS, default=list(LENGTHS))
    parser.add_argument("--infinity", metavar="PROGRAM", help="infinity_emb of an environment of its own")
    parser.add_argument("--peer", metavar="NAME=URL", action="append", default=[], help="a server that runs already")
    parser.add_argument("--model", type=Path, help="a directory; the default embedding model when not given")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    model = args.model
    if model is None:
        from fixture_models import real_model

        model = real_model("embedding")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        all_systems = systems(stack, args, whole_length(model, folder / "model"), folder)
        check(all_systems)
        rows = asyncio.run(measure(all_systems, args, model / "vocab.txt"))
    print("\n" + "\n".join(compared(rows)))
    if args.json is not None:
        about = {"cpus": os.cpu_count(), "machine": platform.machine(), "seconds": args.seconds, "rows": rows}
        args.json.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
