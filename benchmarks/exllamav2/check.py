"""Check and measure an engine for GPUs, in under ten minutes on one GPU.

It compiles the engine's kernels if necessary, makes models with random weights in the shapes of Llama 3.2 1B and Llama
3.1 8B, and runs these steps, as far as the time allows:

1. the tests that need a GPU;
2. with the 1B shape, log-probabilities of generated tokens against plain transformers in float16, and the tokens of a
   continued conversation against those of a rebuilt one;
3. the conformance suite against a server. With random weights over bytes some calls fail with any engine: those that
   send back a reply's text, which is not UTF-8, and those whose JSON does not end in time. Compare them with the result
   of `--backend torch_chat --steps conformance`;
4. twelve turns of a conversation: time to the first token with a session and without;
5. with the 8B shape, tokens per second at 1, 8 and 32 streams, and of plain transformers with as many rows.

    python benchmarks/exllamav2/check.py --json figures.json
    python benchmarks/exllamav2/check.py --backend torch_chat --shapes tiny tiny   # the script itself, on a CPU
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "tests" / "support"), str(HERE.parent / "sessions")]

import httpx
import random_model
import torch
from running import serve
from tiny_model import HERMES, TAGS, save_tiny_llama
from twelve_turns import USER_TOKENS, ask

from ark.app import create_app
from ark.config import Config, KeyConfig, ModelConfig, ServerConfig
from ark.engines.chat import GenerationJob, SamplingParams
from ark.engines.loading import load_backend

GREEDY = SamplingParams(temperature=0.0)
UNFIT = ("streaming/whole-characters", "tools/required")
"""Calls that fail with a model of random weights over bytes: its text is not UTF-8, and it may fill a call with spaces
until its length ends it."""
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main() -> int:
    options = arguments()
    # A shell's background processes ignore interrupts, and so do their children.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    begun = time.perf_counter()
    figures: dict[str, Any] = {"machine": machine(), "backend": options.backend, "torch": torch.__version__}
    steps: list[tuple[str, Callable[[], Any]]] = [
        ("kernels", lambda: build(options)),
        ("gpu tests", gpu_tests),
        ("correctness", lambda: asyncio.run(correctness(options))),
        ("conformance", lambda: conformance(options)),
        ("twelve turns", lambda: twelve_turns(options)),
        ("speed", lambda: asyncio.run(speed(options))),
        ("plain transformers", lambda: plain_speed(options)),
    ]
    for name, step in steps:
        if options.steps and name not in options.steps:
            continue
        started = time.perf_counter()
        if started - begun > options.seconds:
            figures[name] = "no time left"
            continue
        try:
            figures[name] = step()
        except Exception as error:  # noqa: BLE001 - the other steps still say something
            figures[name] = {"failed": repr(error)}
        figures.setdefault("seconds", {})[name] = round(time.perf_counter() - started, 1)
        print(f"## {name} ({figures['seconds'][name]} s)\n{json.dumps(figures[name], indent=1)}\n", flush=True)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if any(isinstance(found, dict) and "failed" in found for found in figures.values()) else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=["exllamav2", "exllamav3", "torch_chat"], default="exllamav2")
    parser.add_argument("--shapes", nargs=2, default=["llama-1b", "llama-8b"], help="for what is right, and for speed")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, default=128, help="that each stream generates")
    parser.add_argument("--prompt", type=int, default=200, help="tokens of each stream's prompt")
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--added", type=int, default=921, help="tokens that each turn adds")
    parser.add_argument("--seconds", type=float, default=540, help="after which no further step begins")
    parser.add_argument("--conformance-seconds", type=float, default=240, help="after which the calls are broken off")
    parser.add_argument("--calls", nargs="+", metavar="PATTERN", default=[], help="of the conformance suite, not all")
    parser.add_argument("--steps", nargs="+", metavar="STEP", help="only these, as 'conformance' or 'twelve turns'")
    parser.add_argument("--model-dir", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def machine() -> str:
    if DEVICE == "cpu":
        return "CPU"
    return f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[1] >> 30} GiB, CUDA {torch.version.cuda}"


def build(options: argparse.Namespace) -> Any:
    """Import the engine, which compiles its kernels if necessary."""
    if options.backend == "torch_chat":
        return "none"
    from ark_backends.exllama import paged_attention
    from ark_backends.exllama.opening import prepare
    from ark_backends.exllama.requirements import missing_requirements

    if missing := missing_requirements(options.backend):
        sys.exit(f"{options.backend} cannot run here. Missing: {'; '.join(missing)}")
    prepare(options.backend, ModelConfig(name="check"))
    return {"attention": paged_attention.install() if options.backend == "exllamav2" else "its own"}


def gpu_tests() -> Any:
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", str(HERE.parents[1] / "tests" / "backends")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[1], check=False)
    last = (done.stdout.strip().splitlines() or [""])[-1]
    # 5: there were none to run.
    return {"result": last} if done.returncode in {0, 5} else {"failed": done.stdout[-2000:]}


def config(options: argparse.Namespace, shape: str) -> ModelConfig:
    directory = options.model_dir / f"ark-check-{shape}"
    context = max(16384, (options.turns + 1) * options.added + 1024)
    random_model.save(directory, shape, context_length=context, device=DEVICE, dtype="float16")
    engine: dict[str, Any] = {"kv_bytes": 2 << 30} if options.backend == "torch_chat" else {}
    return ModelConfig(name="check", path=str(directory), backend=options.backend, engine=engine)


async def opened(options: argparse.Namespace, shape: str) -> Any:
    return await load_backend(options.backend, "chat").open(config(options, shape))


async def run(backend: Any, prompt: list[int], count: int, **more: Any) -> dict[str, Any]:
    """Run a job: its tokens, their log-probabilities, their times, and the number of cached prompt tokens."""
    job = GenerationJob(request_id="check", prompt=prompt, max_tokens=count, sampling=GREEDY, **more)
    found: dict[str, Any] = {"tokens": [], "logprobs": [], "times": [], "cached": None}
    async for batch in backend.generate(job):
        if batch.cached_tokens is not None:
            found["cached"] = batch.cached_tokens
        found["tokens"] += batch.token_ids
        found["logprobs"] += [one.logprob for one in batch.logprobs]
        found["times"] += [time.perf_counter()] * len(batch.token_ids)
    return found


def words(length: int, seed: int, vocabulary: int) -> list[int]:
    made = torch.randint(10, vocabulary, (length,), generator=torch.Generator().manual_seed(seed))
    return [int(token) for token in made]


def plain_model(options: argparse.Namespace, shape: str) -> Any:
    from transformers import AutoModelForCausalLM

    path = config(options, shape).path
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float16 if DEVICE == "cuda" else torch.float32).to(
        DEVICE
    )


async def correctness(options: argparse.Namespace) -> Any:
    shape = options.shapes[0]
    vocabulary = random_model.SHAPES[shape]["vocab_size"]
    backend = await opened(options, shape)
    try:
        runs = [(words(length, length, vocabulary), length) for length in (7, 300, 1500)]
        said = [await run(backend, prompt, 48, top_logprobs=0) for prompt, _ in runs]
        prompt = words(900, 1, vocabulary)
        same = []
        for turn in range(4):
            warm = await run(backend, prompt, 32, session="s", owner="warm")
            cold = await run(backend, prompt, 32, owner=f"cold {turn}")
            same.append(warm["tokens"] == cold["tokens"])
            if turn and warm["cached"] < len(prompt) - 40:
                raise AssertionError(f"turn {turn} found {warm['cached']} of {len(prompt)} tokens")
            prompt = prompt + warm["tokens"] + words(20, 100 + turn, vocabulary)
    finally:
        await backend.close()
    model = plain_model(options, shape)
    apart = []
    for (prompt, _), one in zip(runs, said, strict=True):
        ids = torch.tensor([prompt + one["tokens"]], device=DEVICE)
        with torch.inference_mode():
            expected = model(ids).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
        chosen = expected.gather(1, ids[0, len(prompt) :, None])[:, 0].cpu()
        apart.append(float((chosen - torch.tensor(one["logprobs"])).abs().max()))
    del model
    result = {"largest_difference_of_logprobs": apart, "turns_equal_to_a_rebuild": same}
    return result if max(apart) < 0.1 else {"failed": result}


def talker(options: argparse.Namespace) -> ModelConfig:
    """A small model with a token for every byte and a template with tools, so that any grammar can be enforced.

    It does not reason, because with random weights reasoning would never end.
    """
    directory = options.model_dir / "ark-check-talker"
    template = HERMES.partition("{% if enable_thinking")[0] + "{% endif %}"
    if not (directory / "config.json").exists():
        save_tiny_llama(
            directory, context_length=4096, hidden=512, layers=4, template=template, tags=TAGS, every_byte=True
        )
    # Its replies seldom end by themselves, and on a CPU a reply of thousands of tokens takes a minute.
    context = 4096 if DEVICE == "cuda" else 2560
    return ModelConfig(name="check", path=str(directory), backend=options.backend, context_length=context)


def served(model: ModelConfig, names: list[str]) -> Any:
    keys = tuple(KeyConfig(name=name, sha256=hashlib.sha256(name.encode()).hexdigest()) for name in names)
    made = Config(models=(model,), keys=keys, server=ServerConfig(log_level="warning"))
    return serve(create_app(made), seconds=300)


def conformance(options: argparse.Namespace) -> Any:
    with served(talker(options), ["check", "other"]) as server, tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "ark_conformance.cli", "--base-url", f"{server.url}/v1", "--api-key", "check"]
        command += ["--other-key", "other", "--json", str(report), "--jobs", "1"]
        command += [part for pattern in options.calls for part in ("--only", pattern)]
        said, cut = interrupted_after(options.conformance_seconds, command)
        # It is there, and empty, before the first call is made.
        text = report.read_text() if report.exists() else ""
        if not text:
            return {"failed": said[-2000:]}
        found = json.loads(text)
    failed = {result["name"]: result["problems"] for result in found["results"] if result["status"] == "failed"}
    bad = {name: problems for name, problems in failed.items() if not name.startswith(UNFIT)}
    result = {name: found[name] for name in ("passed", "skipped")} | ({"failed": bad} if bad else {})
    # The last line says how many calls were left.
    return result | ({"cut_off": said.strip().splitlines()[-1]} if cut else {})


def interrupted_after(seconds: float, command: list[str]) -> tuple[str, bool]:
    """A command's output, and whether it was interrupted after `seconds`."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        try:
            try:
                return running.communicate(timeout=seconds)[0], False
            except subprocess.TimeoutExpired:
                running.send_signal(signal.SIGINT)
                # It finishes the calls that are running.
                return running.communicate(timeout=120)[0], True
        finally:
            running.kill()


def twelve_turns(options: argparse.Namespace) -> Any:
    """Seconds to the first token of each turn, with a session and for a new key."""
    cold = [f"cold-{turn}" for turn in range(options.turns)]
    session, messages, rows = str(uuid.uuid4()), [], []
    with (
        served(config(options, options.shapes[0]), ["warm", *cold]) as server,
        httpx.Client(base_url=f"{server.url}/v1", timeout=None) as client,
    ):
        ask_named = lambda key, talk, **more: ask(client, key, talk, model="check", **more)  # noqa: E731
        ask_named("warm", [{"role": "user", "content": random_model.text(64)}], ark_stateful=False, max_tokens=4)
        for turn, key in enumerate(cold):
            user = {"role": "user", "content": random_model.text(USER_TOKENS, start=turn)}
            messages.append(user)
            stateless = ask_named(key, messages, ark_stateful=False, max_tokens=1)
            count = options.added - USER_TOKENS - 5
            stateful = ask_named("warm", [user], ark_stateful=session, max_tokens=count)
            messages.append({"role": "assistant", "content": stateful["text"]})
            rows.append(
                {
                    "turn": turn + 1,
                    "prompt": stateful["prompt"],
                    "computed": stateful["computed"],
                    "stateful_ms": round(1e3 * stateful["first"], 1),
                    "stateless_ms": round(1e3 * stateless["first"], 1),
                }
            )
    return rows


async def speed(options: argparse.Namespace) -> Any:
    shape = options.shapes[1]
    vocabulary = random_model.SHAPES[shape]["vocab_size"]
    backend = await opened(options, shape)
    rows = []
    try:
        await run(backend, words(options.prompt, 1, vocabulary), 8)
        for streams in options.streams:
            rates = []
            for repeat in range(3):
                prompts = [words(options.prompt, 1000 * streams + 100 * repeat + i, vocabulary) for i in range(streams)]
                found = await asyncio.gather(*(run(backend, prompt, options.tokens) for prompt in prompts))
                start, end = max(one["times"][0] for one in found), min(one["times"][-1] for one in found)
                count = sum(sum(start < moment <= end for moment in one["times"]) for one in found)
                rates.append(count / (end - start))
            rows.append({"streams": streams, "tokens_per_second": round(statistics.median(rates), 1)})
    finally:
        await backend.close()
    return rows


def plain_speed(options: argparse.Namespace) -> Any:
    """Tokens per second of transformers' `generate` for as many rows of the same length, without prefill."""
    shape = options.shapes[1]
    model = plain_model(options, shape)
    rows = []
    for streams in options.streams:
        ids = torch.tensor([words(options.prompt, i, 4000) for i in range(streams)], device=DEVICE)
        seconds = {}
        for count in (1, options.tokens):
            begun = time.perf_counter()
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=False,
                pad_token_id=0,
            )
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            seconds[count] = time.perf_counter() - begun
        rate = streams * (options.tokens - 1) / (seconds[options.tokens] - seconds[1])
        rows.append({"streams": streams, "tokens_per_second": round(rate, 1)})
    return rows


if __name__ == "__main__":
    sys.exit(main())
