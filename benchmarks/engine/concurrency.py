"""Measure how the torch engine shares a machine among streams.

A model of SmolLM-135M's shape with random weights (the time of a step does not depend on their values) generates with
1, 8 and 16 streams at once. Then a long prompt arrives while streams run. The times between their tokens are compared
with each other, and the longest with the time that one prefill chunk takes alone.

    python benchmarks/engine/concurrency.py --json result.json
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import random
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

# isort: off
import ark_backends  # noqa: F401 - before torch, which reads how long its threads wait for work

import torch

# isort: on
from transformers import LlamaConfig, LlamaForCausalLM

from ark.engines.chat import GenerationJob, SamplingParams
from ark_backends.kit.threads import run_on_own_thread
from ark_backends.torch_chat import compiled
from ark_backends.torch_chat.engine import TorchEngine, TorchLimits
from ark_backends.torch_chat.quantize import quantize
from ark_backends.torch_chat.runner import Runner

SHAPES = {
    "smol": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
    "tiny": {
        "vocab_size": 4096, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Throughput:
    """Tokens per second of all streams together, from the first token of the last to begin."""

    streams: int
    tokens_per_second: float
    per_stream: float


@dataclass(frozen=True)
class Arrival:
    """Milliseconds around a long prompt that arrives while streams run."""

    streams: int
    prompt: int
    chunk: int
    usual_gap: float
    longest_gap: float
    median_gap: float
    p99_gap: float
    unfairness: float
    """p99 divided by the median of the time between two tokens of a stream, while the prompt is prefilled."""
    chunk_alone: float
    first_token: float


def main() -> None:
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    # As a server does it: this thread is not to compute, or it keeps helpers that make the engine's sleep.
    runner = run_on_own_thread(lambda: prepare(options))
    engine = TorchEngine(runner, limits(options, runner))
    engine.start()
    try:
        result = asyncio.run(measure(engine, options))
    finally:
        engine.close()
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="smol")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 16])
    parser.add_argument("--context", type=int, default=200, help="tokens of each stream's prompt")
    parser.add_argument("--tokens", type=int, default=64, help="tokens that each stream generates")
    parser.add_argument("--beside", type=int, default=16, help="streams that run when the prompt arrives")
    parser.add_argument("--quantization", choices=["int8", "none"], default="none")
    parser.add_argument("--prompt", type=int, default=4000, help="tokens of the prompt that arrives")
    parser.add_argument("--chunk", type=int, default=256, help="prefill tokens of one step")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="torch's own choice when it is 0")
    parser.add_argument("--json", type=Path, help="write the result to this file as well")
    return parser.parse_args()


def prepare(options: argparse.Namespace) -> Runner:
    runner = Runner(build(options.shape, getattr(torch, options.dtype)))
    if options.quantization == "int8":
        quantize(runner, list(range(100)))
    elif compiled.unfit(runner.model, runner.spec) is None:
        runner.compile()
    else:
        runner.pack()
    return runner


def build(shape: str, dtype: torch.dtype) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(max_position_embeddings=8192, **SHAPES[shape])
    return LlamaForCausalLM(config).to(dtype).eval()


def limits(options: argparse.Namespace, runner: Runner) -> TorchLimits:
    room = max(*options.streams, options.beside) * (options.context + options.tokens + 512) + 4 * options.prompt + 8192
    return TorchLimits(
        context_length=8192,
        kv_bytes=2 * room * runner.spec.token_bytes,
        prefill_chunk=options.chunk,
        max_running=max(*options.streams, options.beside + 1),
        max_queue=64,
        threads=options.threads or None,
    )


async def measure(engine: TorchEngine, options: argparse.Namespace) -> dict[str, Any]:
    await together(engine, 2, options.context, 8)
    throughput = []
    for streams in options.streams:
        rates = [await together(engine, streams, options.context, options.tokens) for _ in range(options.repeats)]
        rate = statistics.median(rates)
        throughput.append(Throughput(streams, round(rate, 2), round(rate / streams, 2)))
    arrivals = [await arrival(engine, options) for _ in range(options.repeats)]
    medians = {
        name: round(statistics.median(getattr(one, name) for one in arrivals), 2)
        for name in ("usual_gap", "longest_gap", "median_gap", "p99_gap", "unfairness", "chunk_alone", "first_token")
    }
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "shape": options.shape,
        "dtype": options.dtype,
        "context": options.context,
        "repeats": options.repeats,
        "throughput": [asdict(one) for one in throughput],
        "arrival": asdict(Arrival(options.beside, options.prompt, options.chunk, **medians)),
    }


def job(length: int, count: int) -> GenerationJob:
    """A prompt that shares no beginning with a cached one."""
    prompt = [random.randrange(4096) for _ in range(length)]
    return GenerationJob(request_id="", prompt=prompt, max_tokens=count, sampling=SamplingParams(temperature=0.0))


async def stream(engine: TorchEngine, work: GenerationJob) -> list[float]:
    """Run a job, and return the time of each of its tokens in seconds."""
    results = engine.submit(work)
    times: list[float] = []
    try:
        while True:
            batch = await results.get()
            times += [time.perf_counter()] * len(batch.token_ids)
            if batch.finish_reason is not None:
                return times
    finally:
        engine.cancel(results)


async def together(engine: TorchEngine, streams: int, context: int, tokens: int) -> float:
    """Tokens per second while all streams run."""
    times = await asyncio.gather(*(stream(engine, job(context, tokens)) for _ in range(streams)))
    start = max(one[0] for one in times)
    end = min(one[-1] for one in times)
    count = sum(sum(start < moment <= end for moment in one) for one in times)
    return count / (end - start)


async def arrival(engine: TorchEngine, options: argparse.Namespace) -> Arrival:
    begun = time.perf_counter()
    await stream(engine, job(options.chunk, 1))
    alone = time.perf_counter() - begun
    pieces = -(-options.prompt // options.chunk)
    tasks = [asyncio.create_task(stream(engine, job(options.context, 40 + 2 * pieces))) for _ in range(options.beside)]
    steps = engine.status().steps
    for _ in range(100_000):
        if engine.status().steps >= steps + options.beside * options.context // options.chunk + 15:
            break
        await asyncio.sleep(0.005)
    begun = time.perf_counter()
    long_times = await stream(engine, job(options.prompt, 1))
    ended = time.perf_counter()
    gaps, usual = [], []
    for times in await asyncio.gather(*tasks):
        for before, after in itertools.pairwise(times):
            (gaps if begun < after and before < ended else usual).append(after - before)
    return Arrival(
        streams=options.beside,
        prompt=options.prompt,
        chunk=options.chunk,
        usual_gap=1e3 * statistics.median(usual),
        longest_gap=1e3 * max(gaps),
        median_gap=1e3 * statistics.median(gaps),
        p99_gap=1e3 * statistics.quantiles(gaps, n=100)[98],
        unfairness=statistics.quantiles(gaps, n=100)[98] / statistics.median(gaps),
        chunk_alone=1e3 * alone,
        first_token=1e3 * (long_times[0] - begun),
    )


def show(result: dict[str, Any]) -> None:
    print(f"{result['shape']} {result['dtype']}, torch {result['torch']}, {result['machine']}")
    print(f"\n{'streams':>8} {'tokens/s':>10} {'each':>8}")
    for row in result["throughput"]:
        print(f"{row['streams']:>8} {row['tokens_per_second']:>10.1f} {row['per_stream']:>8.1f}")
    one = result["arrival"]
    print(f"\na prompt of {one['prompt']} tokens arrives while {one['streams']} streams run (ms)")
    print(f"  between tokens before          {one['usual_gap']:>8.1f}")
    print(f"  median gap while it is read    {one['median_gap']:>8.1f}")
    print(f"  p99 / median of these gaps     {one['unfairness']:>8.2f}")
    print(f"  longest gap while it is read   {one['longest_gap']:>8.1f}")
    print(f"  one chunk of {one['chunk']:>4} tokens alone  {one['chunk_alone']:>8.1f}")
    print(f"  its first token after          {one['first_token']:>8.1f}")


if __name__ == "__main__":
    main()
