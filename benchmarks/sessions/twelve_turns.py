"""A conversation of twelve turns: time to the first token with a session, without one, and with its KV cache dropped.

Each turn sends 36 new tokens and gets a long reply, so that turn 12 reads 10,168 tokens. The first token of each turn
is measured in four ways, on one machine in one run:

- stateful: `ark_stateful` names the session, and only the new message is sent;
- stateless: a new key sends the whole conversation, of which nothing is cached;
- rebuilt: a session has the transcript, but its KV cache was dropped and is computed again;
- floor: one bare forward pass over the stateful turn's new tokens with as much cached history, without a server.

    python benchmarks/sessions/twelve_turns.py --json figures.json --plot figures.png
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "tests" / "support")]

import random_model
from running import Running, serve

from ark.app import create_app
from ark.config import Config, KeyConfig, ModelConfig, ServerConfig

USER_TOKENS = 31
"""Tokens of a user message; the template adds five."""
WARM_KEY = "warm"


def main() -> None:
    arguments = read_arguments()
    directory = (
        Path(arguments.model_dir or tempfile.gettempdir())
        / f"ark-bench-{arguments.shape}-{arguments.turns}x{arguments.added}"
    )
    context = (arguments.turns + 1) * arguments.added + 3 * arguments.repeats * 64 + 256
    random_model.save(directory, arguments.shape, context_length=context)
    engine = {"kv_bytes": arguments.kv_bytes}
    if arguments.threads:
        engine["threads"] = arguments.threads
    model = ModelConfig(name="bench", path=str(directory), engine=engine)
    names = [WARM_KEY, *(cold_key(turn) for turn in range(1, arguments.turns + 1))]
    keys = tuple(KeyConfig(name=name, sha256=hashlib.sha256(name.encode()).hexdigest()) for name in names)
    config = Config(models=(model,), keys=keys, server=ServerConfig(log_level="warning"))
    with serve(create_app(config), seconds=300) as server:
        figures = run(server, arguments)
    print_table(figures)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1) + "\n")
    if arguments.plot:
        plot(figures["turns"], Path(arguments.plot), arguments.shape)


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=sorted(random_model.SHAPES), default="smollm-135m")
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--added", type=int, default=921, help="tokens that each turn adds")
    parser.add_argument("--kv-bytes", type=int, default=8 * 2**30)
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each cheap figure; the median counts")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--model-dir", help="where the random model is kept")
    parser.add_argument("--json")
    parser.add_argument("--plot")
    return parser.parse_args()


def cold_key(turn: int) -> str:
    return f"cold-{turn}"


def run(server: Running, arguments: argparse.Namespace) -> dict[str, Any]:
    session = str(uuid.uuid4())
    messages: list[dict[str, str]] = []
    turns: list[dict[str, Any]] = []
    reply_tokens = arguments.added - USER_TOKENS - 5
    with httpx.Client(base_url=f"{server.url}/v1", timeout=None) as client:
        for turn in range(1, arguments.turns + 1):
            user = {"role": "user", "content": random_model.text(USER_TOKENS, start=turn)}
            messages.append(user)
            stateless = ask(client, cold_key(turn), messages, ark_stateful=False, max_tokens=1)
            rebuilt = rebuild(server, client, turn, messages)
            stateful = ask(client, WARM_KEY, [user], ark_stateful=session, max_tokens=reply_tokens)
            floors = [floor(server, stateful["cached"], stateful["computed"]) for _ in range(arguments.repeats)]
            messages.append({"role": "assistant", "content": stateful.pop("text")})
            turns.append(
                {
                    "turn": turn,
                    "stateful": stateful,
                    "stateless": stateless,
                    "rebuilt": rebuilt,
                    "floor": statistics.median(floors),
                }
            )
            print(
                f"turn {turn}: first token after {stateless['first']:.3f} s stateless, "
                f"{rebuilt['first']:.3f} s rebuilt, {stateful['first']:.3f} s stateful",
                file=sys.stderr,
            )
        # The last turn again and again, with replies of one token: a figure that one measurement cannot give.
        ratios = []
        for number in range(arguments.repeats * 3):
            user = {"role": "user", "content": random_model.text(USER_TOKENS, start=100 + number)}
            again = ask(client, WARM_KEY, [user], ark_stateful=session, max_tokens=1)
            ratios.append(again["first"] / floor(server, again["cached"], again["computed"]))
    return {"shape": arguments.shape, "turns": turns, "summary": summarise(turns, ratios)}


def rebuild(server: Running, client: httpx.Client, turn: int, messages: list[dict[str, str]]) -> dict[str, Any]:
    """The first token of a turn whose session has its transcript but no KV cache."""
    session, key = str(uuid.uuid4()), cold_key(turn)
    ask(client, key, messages, ark_stateful=session, max_tokens=1)
    drop_kv(server)
    user = {"role": "user", "content": random_model.text(USER_TOKENS, start=50 + turn)}
    return ask(client, key, [user], ark_stateful=session, max_tokens=1)


def ask(client: httpx.Client, key: str, messages: list[dict[str, str]], **more: Any) -> dict[str, Any]:
    """One streamed reply: seconds to its first text, prompt tokens, and how many of them were computed."""
    body = {
        "model": "bench",
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        "seed": 1,
        **more,
    }
    text, first, usage = [], None, {}
    begun = time.perf_counter()
    with client.stream("POST", "/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            usage = event["usage"] or usage
            for choice in event["choices"]:
                if content := choice["delta"].get("content"):
                    first = first or time.perf_counter() - begun
                    text.append(content)
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return {
        "first": first,
        "prompt": usage["prompt_tokens"],
        "cached": cached,
        "computed": usage["prompt_tokens"] - cached,
        "sent": sum(len(message["content"].split()) + 5 for message in messages),
        "text": "".join(text),
    }


def drop_kv(server: Running) -> None:
    """Make the engine drop every conversation's KV cache but the warm one's."""
    services = server.app.services
    assert services is not None
    backend = services.registry.models[0].backend
    assert backend is not None
    states = backend._engine._states  # type: ignore[attr-defined]
    server.settle()
    for state in [state for state in states._idle if state.owner != WARM_KEY]:
        states.drop(state)


def floor(server: Running, history: int, new: int) -> float:
    """Seconds of one bare forward pass over `new` tokens with `history` cached tokens, in the engine's own model."""
    import torch

    from ark_backends.torch_chat.attention import Piece
    from ark_backends.torch_chat.kv import KVBuffer

    services = server.app.services
    assert services is not None
    runner = services.registry.models[0].backend._engine._runner  # type: ignore[union-attr]
    server.settle()
    kv = KVBuffer(runner.spec, history + new)
    torch.nn.init.normal_(kv.data)
    kv.length = history
    piece = Piece(kv, [10 + i for i in range(new)])
    begun = time.perf_counter()
    runner.forward([piece], [0])
    return time.perf_counter() - begun


def summarise(turns: list[dict[str, Any]], ratios: list[float]) -> dict[str, Any]:
    last = turns[-1]
    prefilled = {way: sum(turn[way]["computed"] for turn in turns) for way in ("stateful", "stateless")}
    return {
        "first_token_ratio_last_turn": last["stateless"]["first"] / last["stateful"]["first"],
        "prompt_tokens_sent_last_turn": {way: last[way]["sent"] for way in ("stateful", "stateless")},
        "tokens_prefilled": prefilled,
        "prefilled_ratio": prefilled["stateless"] / prefilled["stateful"],
        "over_floor_last_turn": statistics.median(ratios),
        "over_floor_last_turn_range": [min(ratios), max(ratios)],
    }


def print_table(figures: dict[str, Any]) -> None:
    print("| turn | sent, stateful | sent, stateless | prefilled | stateless | rebuilt | stateful | floor |")
    print("|---|---|---|---|---|---|---|---|")
    for turn in figures["turns"]:
        warm, cold, again = turn["stateful"], turn["stateless"], turn["rebuilt"]
        print(
            f"| {turn['turn']} | {warm['sent']} | {cold['sent']} | {warm['computed']} | {cold['first']:.2f} s | "
            f"{again['first']:.2f} s | {warm['first']:.3f} s | {turn['floor']:.3f} s |"
        )
    print()
    print(json.dumps(figures["summary"], indent=1))


def plot(turns: list[dict[str, Any]], path: Path, shape: str) -> None:
    import matplotlib

    matplotlib.use("svg" if path.suffix == ".svg" else "agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), constrained_layout=True)
    numbers = [turn["turn"] for turn in turns]
    styles = (("stateless", "o-", "#c0392b"), ("rebuilt", "s--", "#e08e2b"), ("stateful", "o-", "#1f6f8b"))
    for way, style, colour in styles:
        axes.plot(numbers, [turn[way]["first"] for turn in turns], style, color=colour, label=way)
    axes.plot(numbers, [turn["floor"] for turn in turns], ":", color="#555555", label="floor: one bare forward pass")
    axes.set_yscale("log")
    axes.set_xticks(numbers)
    axes.set_xlabel("turn")
    axes.set_ylabel("seconds to the first token")
    axes.set_title(f"Twelve turns, {shape} shape on a CPU with 2 cores")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
