"""Compare the speed of ARK over HTTP with faster-whisper called directly, on the same model and recordings.

    python benchmarks/transcription/compare.py [--model DIRECTORY | --random tiny] [--minutes 10] [--json FILE]

Both are loaded on one machine and take turns in one run. The audio is synthetic speech in eight recordings of one
length, so that 1, 4 and 8 clients do the same work. Direct calls use faster-whisper's own settings for threads. For a
quick look: ``--random tiny --minutes 1 --rounds 1 --clients 1 8 --max-new-tokens 30``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tests" / "support")]

import httpx
from load import Result, closed
from speech import RECORDINGS, make_recordings

SIZES = {"small": (128, 3, 2, 4), "tiny": (384, 4, 4, 6), "base": (512, 6, 6, 8)}
"""Of random models: width, encoder and decoder layers, heads. The last two are those of OpenAI's models."""

START = 240
Measure = Callable[[int], Result]


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
def direct(args: argparse.Namespace, model: Path, files: Sequence[Path]) -> Iterator[Measure]:
    options = {"beam_size": args.beam_size, "max_new_tokens": args.max_new_tokens, "temperature": args.temperature}
    command = [sys.executable, str(HERE / "direct.py"), str(model), json.dumps(options), *map(str, files)]
    with process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        stdin, stdout = child.stdin, child.stdout
        if not stdout.readline():
            raise RuntimeError("faster-whisper cannot be called: run direct.py to see why")

        def measure(clients: int) -> Result:
            print(clients, file=stdin, flush=True)
            return Result(**json.loads(stdout.readline()))

        yield measure


@contextlib.contextmanager
def ark(args: argparse.Namespace, model: Path, files: Sequence[Path], folder: Path) -> Iterator[Measure]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    engine = {"beam_size": args.beam_size, "max_new_tokens": args.max_new_tokens}
    engine |= {"workers": args.workers, "threads": args.threads}
    lines = [f"{name} = {value}" for name, value in engine.items() if value is not None]
    config = folder / "ark.toml"
    config.write_text(
        '[server]\nlog_level = "warning"\n\n[[models]]\nname = "speech"\ntask = "transcription"\n'
        f'path = "{model}"\n\n[models.engine]\n' + "\n".join(lines) + "\n"
    )
    command = [sys.executable, "-m", "hypercorn", "-w", "0", "--bind", f"127.0.0.1:{port}", "ark.app:app"]
    with process(command, stdout=subprocess.DEVNULL, env=os.environ | {"ARK_CONFIG": str(config)}) as child:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + START
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/ready").status_code == 200:
                    break
            if child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("ARK did not get ready")
            time.sleep(0.2)
        sounds = [file.read_bytes() for file in files]
        form = {"model": "speech", "stream": "true", "language": "en"}
        if args.temperature is not None:
            form["temperature"] = str(args.temperature)

        def ask(number: int) -> float:
            """Seconds until the first piece of text."""
            started, first = time.perf_counter(), 0.0
            files = {"file": ("speech.wav", sounds[number], "audio/wav")}
            with client.stream("POST", f"{url}/v1/audio/transcriptions", data=form, files=files) as reply:
                if reply.status_code != 200:
                    raise RuntimeError(reply.read().decode())
                for line in reply.iter_lines():
                    if not first and line.startswith("data: ") and '"transcript.text.' in line:
                        first = time.perf_counter() - started
            return first

        with httpx.Client(timeout=None) as client:
            ask(0)
            yield lambda clients: closed(ask, RECORDINGS, clients, args.minutes * 60)


def model_of(args: argparse.Namespace, folder: Path) -> Path:
    if args.model is not None:
        return Path(args.model)
    from tiny_whisper import save_tiny_whisper

    from ark_backends.whisper.conversion import converted

    hidden, encoder, decoder, heads = SIZES[args.random]
    path = folder / "model"
    path.mkdir()
    save_tiny_whisper(path, hidden=hidden, encoder_layers=encoder, decoder_layers=decoder, heads=heads)
    return converted(path)


def run(args: argparse.Namespace, systems: dict[str, Measure]) -> list[dict[str, object]]:
    """Run both in turns, so that other work of the machine affects both."""
    rows: list[dict[str, object]] = []
    print("| clients | system | seconds of sound a second | first segment, s |\n|---|---|---|---|")
    for clients in args.clients:
        seen: dict[str, list[Result]] = {name: [] for name in systems}
        for number in range(args.rounds):
            order = list(systems) if number % 2 == 0 else list(reversed(systems))
            for name in order:
                seen[name].append(systems[name](clients))
        for name, results in seen.items():
            result = sorted(results, key=lambda one: one.speed)[len(results) // 2]
            spread = [one.speed for one in results]
            rows.append({"clients": clients, "system": name, "speeds": spread, **asdict(result)})
            print(f"| {clients} | {name} | {result.speed:.1f} | {result.first:.2f} |", flush=True)
    return rows


def compared(rows: Sequence[dict[str, object]]) -> list[str]:
    """What the two say of each other."""
    speed = {(row["clients"], row["system"]): statistics.median(row["speeds"]) for row in rows}  # type: ignore[call-overload]
    lines = []
    for clients in dict.fromkeys(row["clients"] for row in rows):
        ratio = speed[clients, "ARK"] / speed[clients, "direct"]
        lines.append(f"{clients} clients: ARK {ratio:.3f} of faster-whisper called directly")
        if clients != 1 and (1, "ARK") in speed:
            lines.append(f"{clients} clients: ARK {speed[clients, 'ARK'] / speed[1, 'ARK']:.2f} of one client")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", help="a CTranslate2 directory")
    parser.add_argument("--random", choices=SIZES, default="tiny", help="a model of this size when none is given")
    parser.add_argument("--minutes", type=float, default=10.0, help="of sound in one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", type=int, nargs="+", choices=(1, 2, 4, 8), default=(1, 4, 8))
    parser.add_argument("--beam-size", type=int, default=5)
    parser.add_argument("--temperature", type=float, help="0 for random models, which would try every other as well")
    parser.add_argument("--max-new-tokens", type=int, help="of a window; 60 for random models, which know no end")
    parser.add_argument("--workers", type=int, help="of ARK")
    parser.add_argument("--threads", type=int, help="of one worker of ARK")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    args = parser.parse_args()
    if args.model is None:
        args.temperature = args.temperature or 0.0
        args.max_new_tokens = args.max_new_tokens or 60
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        files = make_recordings(folder, args.minutes * 60)
        model = model_of(args, folder)
        systems = {
            "ARK": stack.enter_context(ark(args, model, files, folder)),
            "direct": stack.enter_context(direct(args, model, files)),
        }
        rows = run(args, systems)
    print("\n" + "\n".join(compared(rows)))
    if args.json is not None:
        about = {"cpus": os.cpu_count(), "machine": platform.machine(), "minutes": args.minutes, "rows": rows}
        about["model"] = args.model or f"random, {args.random}"
        args.json.write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
