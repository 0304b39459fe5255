"""The first token of turn 30 beside that of turn 3, in a chain of responses by id: what grows, and by how much.

A turn's time to its first token has two parts: the engine's forward pass over the new tokens, and everything else (the
request, the store, the template, the tokenizer, the first event). The pass itself is measured bare too, in the engine's
own model without a server, over as many new tokens behind as long a history: what that grows by from turn 3 to turn 30
is the attention's share, which no server can avoid. Each figure is the least of several: whatever else runs on the
machine only adds to it.

    python benchmarks/sessions/first_token.py --json first_token.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "tests" / "support")]

import chain
import random_model
from running import Running, serve

from ark.app import create_app
from ark.config import Config, ModelConfig, ServerConfig

EARLY = 3
"""The turn that the last one is compared with."""


def main() -> None:
    options = read_arguments()
    path = Path(options.model or Path(tempfile.gettempdir()) / f"ark-bench-{options.shape}-chain")
    if options.model is None:
        random_model.save(path, options.shape, context_length=8192)
    model = ModelConfig(name="bench", path=str(path), engine={"kv_bytes": 2 * 2**30, "quantization": "int8"})
    config = Config(models=(model,), server=ServerConfig(log_level="warning"))
    with serve(create_app(config), seconds=300) as server:
        found = measure(server, options)
    print_table(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(random_model.SHAPES), default="smollm-135m")
    parser.add_argument("--model", help="a directory or a GGUF file of real weights instead")
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--user-tokens", type=int, default=32)
    parser.add_argument("--reply-tokens", type=int, default=48)
    parser.add_argument("--chains", type=int, default=7, help="the first warms up; the least of the others counts")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


class TimedRunner:
    """The seconds of the engine's forward passes."""

    def __init__(self, server: Running) -> None:
        services = server.app.services
        assert services is not None
        self.runner: Any = services.registry.models[0].backend._engine._runner  # type: ignore[union-attr]
        self.passes: list[tuple[int, float]] = []
        """Of each pass its tokens and seconds."""
        self._forward = self.runner.forward
        self.runner.forward = self._timed

    def _timed(self, pieces: Any, wanted: Any) -> Any:
        begun = time.perf_counter()
        logits = self._forward(pieces, wanted)
        self.passes.append((sum(len(piece.token_ids) for piece in pieces), time.perf_counter() - begun))
        return logits

    def bare(self, history: int, new: int) -> float:
        """Seconds of one pass over `new` tokens behind `history` others."""
        import torch

        from ark_backends.torch_chat.attention import Piece
        from ark_backends.torch_chat.kv import KVBuffer

        kv = KVBuffer(self.runner.spec, history + new)
        torch.nn.init.normal_(kv.data)
        kv.length = history
        piece = Piece(kv, [10 + i for i in range(new)])
        begun = time.perf_counter()
        self._forward([piece], [0])
        return time.perf_counter() - begun


def run_chain(url: str, texts: list[str], reply_tokens: int) -> list[chain.Turn]:
    with httpx.Client(base_url=f"{url}/v1", timeout=None) as client:
        return chain.run(client, "bench", texts, reply_tokens=reply_tokens)


def measure(server: Running, options: argparse.Namespace) -> dict[str, Any]:
    timed, rows = TimedRunner(server), []
    # A client in this process would hold up the server's threads.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as client:
        for number in range(options.chains):
            texts = [random_model.text(options.user_tokens, start=100 * number + n) for n in range(options.turns)]
            timed.passes.clear()
            turns = client.submit(run_chain, server.url, texts, options.reply_tokens).result()
            server.settle()
            # Between prompts come replies, of one token in each pass.
            prompts = [seconds for tokens, seconds in timed.passes if tokens > 1]
            if number and len(prompts) == len(turns):
                rows.append([(turn, seconds) for turn, seconds in zip(turns, prompts, strict=True)])
            print(f"chain {number}: turn {EARLY} {turns[EARLY - 1].first:.4f} s, last {turns[-1].first:.4f} s")
    found = []
    for turn in range(options.turns):
        firsts = [row[turn][0].first for row in rows]
        forwards = [row[turn][1] for row in rows]
        one = rows[0][turn][0]
        found.append(
            {
                "turn": turn + 1,
                "input": one.input,
                "prefilled": one.prefilled,
                "first": min(firsts),
                "forward": min(forwards),
                "rest": min(a - b for a, b in zip(firsts, forwards, strict=True)),
            }
        )
    return {"turns": found, "summary": summarise(found, timed)}


def summarise(found: list[dict[str, Any]], timed: TimedRunner) -> dict[str, float]:
    early, late = found[EARLY - 1], found[-1]
    bare: dict[str, list[float]] = {"early": [], "late": [], "none": []}
    for _ in range(15):
        for name, history in (
            ("early", early["input"] - early["prefilled"]),
            ("late", late["input"] - late["prefilled"]),
            ("none", 0),
        ):
            bare[name].append(timed.bare(history, late["prefilled"]))
    floor = {name: min(seconds) for name, seconds in bare.items()}
    attention = floor["late"] - floor["early"]
    return {
        "first_late_over_early": late["first"] / early["first"],
        "forward_late_over_early": late["forward"] / early["forward"],
        "bare_late_over_early": floor["late"] / floor["early"],
        "rest_late_over_early": late["rest"] / early["rest"],
        "without_attention_late_over_early": (late["first"] - attention) / early["first"],
        "attention_share_late": attention / late["first"],
        "rest_early_ms": 1e3 * early["rest"],
        "rest_late_ms": 1e3 * late["rest"],
        "bare_early_ms": 1e3 * floor["early"],
        "bare_late_ms": 1e3 * floor["late"],
        "bare_without_history_ms": 1e3 * floor["none"],
    }


def print_table(found: dict[str, Any]) -> None:
    print("| turn | input | prefilled | first token | forward pass | everything else |\n|---|---|---|---|---|---|")
    for turn in found["turns"]:
        if turn["turn"] in (1, 2) or turn["turn"] % 3 == 0 or turn is found["turns"][-1]:
            times = " | ".join(f"{1e3 * turn[name]:.1f} ms" for name in ("first", "forward", "rest"))
            print(f"| {turn['turn']} | {turn['input']} | {turn['prefilled']} | {times} |")
    print(json.dumps({name: round(value, 3) for name, value in found["summary"].items()}, indent=1))


if __name__ == "__main__":
    main()
