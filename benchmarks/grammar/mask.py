"""Measure what a grammar adds to a decode step of the torch engine.

A model with random weights generates with and without a JSON schema in turns, so that a busy machine slows both.
Filling and applying a mask are also measured separately. The vocabulary has random words: the cost of a mask depends on
the vocabulary's size, not on its content.

    python benchmarks/grammar/mask.py --shape smol --streams 1 8 --json result.json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import random
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ark.chat.grammar import Answer, grammar
from ark.engines.chat import GenerationJob, Grammar, SamplingParams
from ark_backends.kit.grammar import Grammars, apply_masks
from ark_backends.torch_chat import TorchChat
from ark_backends.torch_chat.engine import TorchEngine, TorchLimits
from ark_backends.torch_chat.runner import Runner

SHAPES: dict[str, dict[str, Any]] = {
    "smol": {
        "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True,
    },
    "qwen": {
        "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "tiny": {
        "vocab_size": 4096, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
}  # fmt: skip

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
SCHEMA = {"type": "array", "items": PERSON, "minItems": 1000}
END = 256


def main() -> None:
    options = arguments()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shape = SHAPES[options.shape]
    config = LlamaConfig(max_position_embeddings=4096, **shape)
    runner = Runner(LlamaForCausalLM(config).to(getattr(torch, options.dtype)).eval())
    grammars = Grammars(vocabulary(shape["vocab_size"]), hidden=(), ends=[END])
    most = max(options.streams)
    limits = TorchLimits(
        context_length=4096,
        kv_bytes=most * 2048 * runner.spec.token_bytes,
        prefill_chunk=256,
        max_running=most,
        max_queue=most,
    )
    engine = TorchEngine(runner, limits)
    unused: Any = None
    backend = TorchChat(engine, unused, grammars, SamplingParams())
    engine.start()
    try:
        result = asyncio.run(measure(backend, grammars, options, shape["vocab_size"]))
    finally:
        engine.close()
    show(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="smol")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--tokens", type=int, default=64, help="tokens that each stream generates")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="torch's own choice when it is 0")
    parser.add_argument("--json", type=Path, help="write the result to this file as well")
    return parser.parse_args()


def vocabulary(size: int) -> list[bytes]:
    """All bytes, an end token, punctuation, and random words with and without a leading space."""
    draw = random.Random(0)
    tokens = [*(bytes([byte]) for byte in range(256)), b""]
    seen = set(tokens)
    while len(tokens) < size:
        word = "".join(draw.choices("etaoinshrdlcumwfgypbvkjxqz", range(26, 0, -1), k=draw.randint(2, 9)))
        word = draw.choice(["", " ", " ", '"', '":', '{"', '", "', "\n", "{", "é"]) + word
        if word.encode() not in seen:
            seen.add(word.encode())
            tokens.append(word.encode())
    return tokens


async def measure(backend: TorchChat, grammars: Grammars, options: argparse.Namespace, vocab: int) -> dict[str, Any]:
    made = grammar(Answer(SCHEMA), None, None)
    assert made is not None
    rows = []
    for streams in options.streams:
        times: dict[str, list[float]] = {"free": [], "bound": []}
        await steps(backend, None, streams, 8)
        for number in range(options.rounds):
            times["free"].append(await steps(backend, None, streams, options.tokens, number))
            times["bound"].append(await steps(backend, made, streams, options.tokens, number))
        free, bound = (statistics.median(times[kind]) for kind in ("free", "bound"))
        rows.append({"streams": streams, "free_ms": free, "bound_ms": bound, "more": bound / free - 1})
    return {
        "shape": options.shape,
        "dtype": options.dtype,
        "threads": torch.get_num_threads(),
        "machine": platform.processor() or platform.machine(),
        "rows": rows,
        "alone": alone(grammars, made, vocab),
    }


async def steps(backend: TorchChat, bound: Grammar | None, streams: int, tokens: int, seed: int = 0) -> float:
    """Milliseconds of a step while all streams run."""
    stamps: list[list[float]] = [[] for _ in range(streams)]

    async def run(number: int) -> None:
        job = GenerationJob(
            request_id=str(number),
            prompt=[number + 300, 301, 302, 303],
            max_tokens=tokens,
            sampling=SamplingParams(seed=1000 * seed + number),
            stop_token_ids=frozenset({END}) if bound is not None else frozenset(),
            grammar=bound,
        )
        async for batch in backend.generate(job):
            stamps[number] += [time.perf_counter()] * len(batch.token_ids)

    await asyncio.gather(*(run(number) for number in range(streams)))
    # They start one after another, as their grammars are compiled.
    begin, end = max(one[0] for one in stamps), min(one[-1] for one in stamps)
    together = [moment for moment in stamps[0] if begin <= moment <= end]
    return (together[-1] - together[0]) / (len(together) - 1) * 1000


def alone(grammars: Grammars, made: Grammar, vocab: int) -> dict[str, float]:
    """Milliseconds of the parts, for one stream: compiling, filling a mask, applying it."""
    draw = random.Random(1)
    begin = time.perf_counter()
    matcher = grammars.compile(made)
    compiled = time.perf_counter() - begin
    fill, apply = [], []
    logits = torch.randn(1, vocab)
    for _ in range(200):
        bits = torch.zeros(1, grammars.words, dtype=torch.int32)
        begin = time.perf_counter()
        matcher.fill(bits[0])
        filled = time.perf_counter()
        masked = apply_masks(logits, bits, [0])
        apply.append(time.perf_counter() - filled)
        fill.append(filled - begin)
        matcher.consume(draw.choice(torch.isfinite(masked[0]).nonzero()[:, 0].tolist()))
    return {
        "compile_ms": compiled * 1000,
        "fill_ms": statistics.median(fill) * 1000,
        "fill_worst_ms": max(fill) * 1000,
        "apply_ms": statistics.median(apply) * 1000,
    }


def show(result: dict[str, Any]) -> None:
    print(f"{result['shape']}, {result['dtype']}, {result['threads']} threads, {result['machine']}")
    print("streams   step ms   with a schema    more")
    for row in result["rows"]:
        print(f"{row['streams']:7}  {row['free_ms']:8.2f}  {row['bound_ms']:14.2f}  {100 * row['more']:5.1f} %")
    parts = result["alone"]
    print(
        f"alone: compile {parts['compile_ms']:.1f} ms; a mask: fill {parts['fill_ms']:.3f} ms "
        f"(worst {parts['fill_worst_ms']:.2f}), apply {parts['apply_ms']:.3f} ms"
    )


if __name__ == "__main__":
    main()
