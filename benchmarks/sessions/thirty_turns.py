"""Thirty chained turns beside vLLM and llama.cpp: tokens prefilled in each turn, and its first token.

All serve the same weights on one machine in one run, with their own 8-bit or 16-bit form of them, and one conversation
after another, the servers in turns; the least time of each turn counts, because whatever else runs on the machine only
adds to it. ARK and vLLM continue a response by its id. llama.cpp's `/v1/responses` knows no
`previous_response_id`, so the client sends the whole conversation, and the server finds it in its cache; ARK is
measured that way too.

    tests/engines/install_vllm.sh /tmp/vllm
    python benchmarks/environment.py /tmp/peers
    python benchmarks/sessions/thirty_turns.py --vllm /tmp/vllm --peers /tmp/peers --json thirty_turns.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "chat")]

import byte_model
import chain
import servers

WAYS: dict[str, tuple[str, chain.Way]] = {
    "ARK": ("ark", "id"),
    "ARK, whole": ("ark", "whole"),
    "vLLM": ("vllm", "id"),
    "llama.cpp, whole": ("llama.cpp", "whole"),
}
"""What is measured: a server, and what a turn sends it."""
EARLY = 3


def main() -> None:
    options = read_arguments()
    directory = Path(options.model_dir or tempfile.gettempdir()) / f"ark-bench-bytes-{options.shape}-chain"
    byte_model.save(directory, options.shape, context_length=8192)
    setting = servers.Setting(
        directory=directory,
        shape=options.shape,
        thoughts=0,
        threads=options.threads,
        peer=str(options.peers / "bin" / "python") if options.peers else "",
        vllm=str(options.vllm / "bin") if options.vllm else "",
        slots=2,
        slot_tokens=8192,
    )
    ways = {name: way for name, way in WAYS.items() if not options.only or way[0] in options.only}
    found: dict[str, list[list[chain.Turn]]] = {name: [] for name in ways}
    with ExitStack() as running:
        started = {name: running.enter_context(servers.SERVERS[name](setting)) for name, _ in ways.values()}
        for number in range(options.chains + 1):
            for place, (name, (server, way)) in enumerate(ways.items()):
                # Other words in each, so that none finds the tokens of another.
                count = options.turns if number else EARLY  # the first warms up
                texts = [text(options.bytes, 10 * number + place, turn) for turn in range(1, count + 1)]
                # llama.cpp's server may close a connection as the next request comes.
                once = httpx.Limits(max_keepalive_connections=0)
                with httpx.Client(base_url=f"{started[server].url}/v1", timeout=120, limits=once) as client:
                    turns = chain.run(client, started[server].model, texts, reply_tokens=options.reply_tokens, way=way)
                if number:
                    found[name].append(turns)
                print(f"{name} {number}: {turns[EARLY - 1].first:.3f} s, {turns[-1].first:.3f} s", file=sys.stderr)
    figures = {name: [summarise(place) for place in zip(*chains, strict=True)] for name, chains in found.items()}
    print_table(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", type=Path, help="the environment of vLLM")
    parser.add_argument("--peers", type=Path, help="the environment of llama.cpp")
    parser.add_argument("--only", action="append", choices=["ark", "vllm", "llama.cpp"], help="measure these alone")
    parser.add_argument("--shape", default="smollm-135m")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=30)
    parser.add_argument("--bytes", type=int, default=32, help="of a message; each is a token")
    parser.add_argument("--reply-tokens", type=int, default=32)
    parser.add_argument("--chains", type=int, default=3, help="conversations of each, behind one that warms up")
    parser.add_argument("--model-dir")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def text(size: int, conversation: int, turn: int) -> str:
    return f"{conversation} {turn} ".ljust(size, "abcdefghij"[turn % 10])


def summarise(turns: tuple[chain.Turn, ...]) -> dict[str, Any]:
    """One turn of all chains."""
    prefilled = [turn.prefilled for turn in turns if turn.prefilled is not None]
    return {
        "input": turns[0].input,
        "prefilled": statistics.median(prefilled) if prefilled else None,
        "first": min(turn.first for turn in turns),
    }


def print_table(figures: dict[str, list[dict[str, Any]]]) -> None:
    for what, unit in (("prefilled", 1.0), ("first", 1e3)):
        print(f"\n{what}{', ms' * (what == 'first')}\n\n| turn | input | " + " | ".join(figures) + " |")
        print("|---" * (len(figures) + 2) + "|")
        turns = len(next(iter(figures.values())))
        for number in sorted({0, 1, 2, 4, 9, 14, 19, 24, turns - 1} & set(range(turns))):
            rows = [one[number] for one in figures.values()]
            cells = ["-" if row[what] is None else f"{unit * row[what]:.0f}" for row in rows]
            print(f"| {number + 1} | {rows[0]['input']} | " + " | ".join(cells) + " |")
    if all(len(one) > EARLY for one in figures.values()):
        ratios = {name: round(one[-1]["first"] / one[EARLY - 1]["first"], 2) for name, one in figures.items()}
        print("\nfirst token of the last turn over that of turn 3:", json.dumps(ratios))


if __name__ == "__main__":
    main()
