"""ARK's torch engine beside llama.cpp's, with the same random weights, in one run.

Each engine runs in a process of its own and without HTTP; one works while the others wait. In turns they generate with
1, 4, 8 and 16 streams, whose rate counts from the first token of the last to begin until one ends, and read a prompt of
512 tokens. The medians of all rounds count. llama.cpp comes in the package xllamacpp, in an environment of its own:

    python benchmarks/environment.py /tmp/peers
    python benchmarks/engine/beside_llama_cpp.py --peer /tmp/peers/bin/python --json result.json

With ``--gguf`` both engines take a model from one file in Q8_0, in place of random weights.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1]), str(HERE.parents[1] / "backends")]

import byte_model

CONTEXT = 200
TOKENS = 48
PREFILL = 512
STREAMS = (1, 4, 8, 16)

Generate = Callable[[int, int, int], float]
"""Streams, tokens of each prompt and of each reply -> tokens/s of all; with replies of one token, of the prompts."""


def main() -> None:
    options = arguments()
    if options.worker:
        work(options)
        return
    directory = Path(options.model_dir) / f"ark-bytes-{options.shape}"
    if options.gguf:
        options.ark, options.llama, options.shape = ["int8"], ["q8_0"], options.gguf.stem
    else:
        byte_model.save(directory, options.shape, context_length=4096)
    load = os.getloadavg()[0]
    workers = [Worker(sys.executable, directory, f"ark {kind}", options) for kind in options.ark]
    workers += [Worker(options.peer, directory, f"llama.cpp {kind}", options) for kind in options.llama]
    found: dict[str, dict[str, list[float]]] = {worker.name: {} for worker in workers}
    try:
        for number in range(options.rounds + 1):
            for what in (*map(str, STREAMS), "prefill"):
                for worker in workers:
                    rate = worker.measure(what)
                    if number:  # the first round warms up
                        found[worker.name].setdefault(what, []).append(rate)
                print(number, what, {name: rates.get(what, [0])[-1] for name, rates in found.items()}, file=sys.stderr)
    finally:
        for worker in workers:
            worker.close()
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {options.threads} threads",
        "load_before": round(load, 2),
        "shape": options.shape,
        "context": CONTEXT,
        "rounds": options.rounds,
        "tokens_per_second": {
            name: {what: round(statistics.median(rates), 1) for what, rates in one.items()}
            for name, one in found.items()
        },
        "all": found,
    }
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=sys.executable, help="a Python that has xllamacpp and gguf")
    parser.add_argument("--shape", choices=sorted(byte_model.SHAPES), default="smollm-135m")
    parser.add_argument(
        "--gguf", type=Path, help="a file whose numbers are in Q8_0, with a vocabulary of 10,000 or more"
    )
    parser.add_argument("--ark", nargs="*", default=["int8"], choices=["int8", "none"])
    parser.add_argument("--llama", nargs="*", default=["q8_0", "q4_0", "bf16"], choices=["q8_0", "q4_0", "bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--model-dir", default=tempfile.gettempdir())
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


class Worker:
    """An engine in a process of its own, which measures when it is told to."""

    def __init__(self, python: str, directory: Path, name: str, options: argparse.Namespace) -> None:
        self.name = name
        command = [python, __file__, "--worker", name, "--directory", str(directory), "--threads", str(options.threads)]
        command += ["--gguf", str(options.gguf)] if options.gguf else ["--shape", options.shape]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()

    def measure(self, what: str) -> float:
        assert self._process.stdin is not None
        print(what, file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> float:
        assert self._process.stdout is not None
        # An engine may write lines of its own.
        for line in self._process.stdout:
            if line.startswith("RESULT "):
                return float(line.split()[1])
        raise RuntimeError(f"{self.name} ended")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)


def work(options: argparse.Namespace) -> None:
    engine, kind = options.worker.split()
    generate = (ark if engine == "ark" else llama)(options, kind)
    print("RESULT 0", flush=True)
    for line in sys.stdin:
        what = line.strip()
        rate = generate(1, PREFILL, 1) if what == "prefill" else generate(int(what), CONTEXT, TOKENS)
        print(f"RESULT {rate:.2f}", flush=True)


def prompt(options: argparse.Namespace, length: int) -> list[int]:
    """Ids that are no beginning of an earlier prompt: bytes, or of a real vocabulary those of usual words."""
    first, last = (1000, 10_000) if options.gguf else (0, 96)
    return [random.randrange(first, last) for _ in range(length)]


def together(times: list[list[float]], begun: float, length: int) -> float:
    """Tokens per second while all streams run; of the prompt where there is one token of each."""
    if max(map(len, times)) == 1:
        return length * len(times) / (max(one[0] for one in times) - begun)
    start, end = max(one[0] for one in times), min(one[-1] for one in times)
    return sum(sum(start < moment <= end for moment in one) for one in times) / (end - start)


def ark(options: argparse.Namespace, kind: str) -> Generate:
    from ark.config import ModelConfig
    from ark.engines.chat import GenerationJob, SamplingParams
    from ark.process import memory
    from ark_backends.torch_chat import TorchChat

    # As a server does.
    memory.tune_allocator()
    engine = {"threads": options.threads, "quantization": kind, "dtype": "float32", "kv_bytes": 2 << 30}
    loop = asyncio.new_event_loop()
    path = str(options.gguf or options.directory)
    chat = loop.run_until_complete(TorchChat.open(ModelConfig(name="m", path=path, engine=engine)))

    async def stream(length: int, count: int) -> list[float]:
        sampling = SamplingParams(temperature=0.0)
        job = GenerationJob(request_id="", prompt=prompt(options, length), max_tokens=count, sampling=sampling)
        times: list[float] = []
        async for batch in chat.generate(job):
            times += [time.perf_counter()] * len(batch.token_ids)
        return times

    async def all_of(streams: int, length: int, count: int) -> list[list[float]]:
        return await asyncio.gather(*(stream(length, count) for _ in range(streams)))

    def generate(streams: int, length: int, count: int) -> float:
        begun = time.perf_counter()
        return together(loop.run_until_complete(all_of(streams, length, count)), begun, length)

    return generate


def llama(options: argparse.Namespace, kind: str) -> Generate:
    import xllamacpp

    weights = options.gguf or _written(options, kind)
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.n_parallel = max(STREAMS)
    params.n_ctx = 1024 * params.n_parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.port, params.verbosity = 0, 0
    server = xllamacpp.Server(params)

    def stream(length: int, count: int, times: list[float]) -> None:
        body: dict[str, Any] = {
            "prompt": prompt(options, length), "n_predict": count, "temperature": 0, "ignore_eos": True, "stream": True,
            "cache_prompt": False,
        }  # fmt: skip

        def note(chunk: Any) -> None:
            for event in chunk if isinstance(chunk, list) else [chunk]:
                if event["choices"] and event["choices"][0].get("text"):
                    times.append(time.perf_counter())

        server.handle_completions(body, note)

    def generate(streams: int, length: int, count: int) -> float:
        times: list[list[float]] = [[] for _ in range(streams)]
        threads = [threading.Thread(target=stream, args=(length, count, one)) for one in times]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return together([one[:count] for one in times], begun, length)

    return generate


def _written(options: argparse.Namespace, kind: str) -> Path:
    weights: Path = options.directory / f"{kind}.gguf"
    # In a process of its own: what writes them leaves threads behind, with which llama.cpp has half of its speed.
    writer = multiprocessing.get_context("spawn").Process(
        target=byte_model.save_gguf, args=(options.directory, weights, options.shape, kind)
    )
    writer.start()
    writer.join()
    if writer.exitcode:
        raise RuntimeError(f"{weights} could not be written")
    return weights


def show(result: dict[str, Any]) -> None:
    rates = result["tokens_per_second"]
    first, peer = next(iter(rates)), next((name for name in rates if name.endswith("q8_0")), None)
    print(f"{result['shape']}, {result['machine']}, load before {result['load_before']}; tokens/s")
    print(f"\n| | {' | '.join(rates)} | {first} / {peer} |")
    print("|---" * (len(rates) + 2) + "|")
    for what in rates[first]:
        ratio = f"{rates[first][what] / rates[peer][what]:.2f}" if peer else "-"
        label = f"prefill {PREFILL}" if what == "prefill" else f"{what} streams"
        print(f"| {label} | {' | '.join(f'{one[what]:.0f}' for one in rates.values())} | {ratio} |")


if __name__ == "__main__":
    main()
