"""Compare ARK over HTTP with other servers, with the same weights and the same client, in one run.

Each scenario starts servers of its own:

- streams: 1, 4 and 16 at once, each with its own prompt;
- turns: a conversation of twelve turns. The client sends all of it each time, as clients of OpenAI's API do. ARK also
  gets it with `ark_stateful`, which sends only the new message. llama.cpp keeps the conversation in its prompt cache;
- thinking: the same, with half of each reply as hidden reasoning, which the client does not send back;
- rotation: 32 conversations that take turns, with room for eight.

The servers also take turns, one turn or one group of streams at a time. The figures are medians.

    python benchmarks/environment.py /tmp/peers
    python benchmarks/chat/compare.py --peer /tmp/peers/bin/python --json chat.json --plot chat.svg
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

import byte_model
from client import Client, Reply
from random_model import SHAPES
from servers import SERVERS, Running, Setting

STREAMS = (1, 4, 16)
PROMPT = 200
USER = 31
SCENARIOS = ("streams", "turns", "thinking", "rotation")
SLOW = {"transformers": ("streams",)}
"""Peers that would take many minutes for the other scenarios."""


def main() -> None:
    options = arguments()
    result: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {options.threads} threads",
        "load_before": round(os.getloadavg()[0], 2),
        "shape": options.shape,
    }
    run = {"streams": streams, "turns": turns, "thinking": thinking, "rotation": rotation}
    for scenario in options.scenarios:
        names = [name for name in options.servers if scenario in SLOW.get(name, SCENARIOS)]
        result[scenario] = asyncio.run(run[scenario](options, names))
        show(scenario, result[scenario])
        if options.json:
            options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.plot:
        plot(result, options.plot)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", default=sys.executable, help="the Python of the peers' environment")
    parser.add_argument("--servers", nargs="+", choices=tuple(SERVERS), default=list(SERVERS))
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--shape", choices=sorted(SHAPES), default="smollm-135m")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3, help="of the streams and of the rotation")
    parser.add_argument("--tokens", type=int, default=64, help="of each stream")
    parser.add_argument("--turns", type=int, default=12)
    parser.add_argument("--added", type=int, default=921, help="tokens that each turn adds")
    parser.add_argument("--conversations", type=int, default=32, help="in rotation")
    parser.add_argument("--room", type=int, default=8, help="conversations for which there is memory in rotation")
    parser.add_argument("--history", type=int, default=800, help="tokens of each conversation in rotation")
    parser.add_argument("--model-dir", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    return parser.parse_args()


def setting(options: argparse.Namespace, slots: int, slot_tokens: int, *, only_slots: bool = False) -> Setting:
    thoughts = (options.added - USER - 5) // 2
    context = max(2048, (options.turns + 2) * options.added)
    directory = options.model_dir / f"ark-counting-{options.shape}-{thoughts}-{context}"
    byte_model.save(directory, options.shape, context_length=context, thoughts=thoughts)
    return Setting(
        directory, options.shape, thoughts, options.threads, options.peer, slots, slot_tokens, only_slots=only_slots
    )


@contextmanager
def started(names: list[str], what: Setting) -> Iterator[dict[str, Running]]:
    """The servers that start. Reports those that do not, and goes on without them."""
    with ExitStack() as stack:
        running: dict[str, Running] = {}
        for name in names:
            try:
                running[name] = stack.enter_context(SERVERS[name](what))
            except (RuntimeError, OSError) as error:
                print(f"{name}: {error}", file=sys.stderr)
        yield running


def letters(count: int, number: int) -> str:
    """A text of `count` tokens that shares no beginning with a text of another `number`."""
    head = f"{number} "
    return head + "".join(chr(97 + (number * 31 + i * 7) % 26) for i in range(count - len(head)))


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


async def streams(options: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with started(names, setting(options, max(STREAMS), 1024)) as running:
        rows: dict[str, dict[int, list[list[Reply]]]] = {name: {count: [] for count in STREAMS} for name in running}
        rates: dict[str, dict[int, list[float]]] = {name: {count: [] for count in STREAMS} for name in running}
        for number in range(options.rounds + 1):
            for count in STREAMS:
                for name, server in running.items():
                    begun = time.perf_counter()
                    texts = [letters(PROMPT, 1000 * number + 50 * count + i) for i in range(count)]
                    replies = await asyncio.gather(*(alone(server, text, options.tokens) for text in texts))
                    if number:  # the first round warms up
                        rows[name][count].append(replies)
                        tokens = sum(reply.tokens for reply in replies)
                        rates[name][count].append(tokens / (time.perf_counter() - begun))
                        print(f"{name}, {count} streams: {rates[name][count][-1]:.0f} tokens/s", file=sys.stderr)
    for name, groups in rows.items():
        found[name] = {str(count): stream_figures([r for group in of for r in group]) for count, of in groups.items()}
        for count, all_rates in rates[name].items():
            found[name][str(count)]["tokens_per_second"] = statistics.median(all_rates)
    return found


async def alone(server: Running, text: str, tokens: int) -> Reply:
    """One reply for a new user."""
    client = Client(server.url, server.model)
    try:
        return await client.ask([user(text)], tokens)
    finally:
        await client.close()


def stream_figures(replies: list[Reply]) -> dict[str, float]:
    gaps = sorted(gap for reply in replies for gap in reply.gaps)
    return {
        "first": statistics.median(reply.first for reply in replies),
        "gap_p50": gaps[len(gaps) // 2],
        "gap_p99": gaps[len(gaps) * 99 // 100],
    }


async def turns(options: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    return await conversation(options, names, thinks=False)


async def thinking(options: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    return await conversation(options, names, thinks=True)


async def conversation(options: argparse.Namespace, names: list[str], *, thinks: bool) -> dict[str, Any]:
    """Seconds to the first token of each turn, and prompt and cached tokens as the servers count them."""
    found: dict[str, Any] = {}
    more: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": thinks}}
    with started(names, setting(options, 4, (options.turns + 1) * options.added + 256)) as running:
        users = dict(running)
        if "ark" in running:
            users["ark, ark_stateful"] = running["ark"]
        clients = {name: Client(server.url, server.model) for name, server in users.items()}
        histories: dict[str, list[dict[str, str]]] = {name: [] for name in users}
        named = {"ark_stateful": str(uuid.uuid4())}
        for turn in range(options.turns):
            for name, client in clients.items():
                stateful = name.endswith("ark_stateful")
                # With the same words ARK would continue the other conversation, and have to copy its cache.
                asked = user(letters(USER, turn + 500 * stateful))
                histories[name].append(asked)
                sent = [asked] if stateful else histories[name]
                reply = await client.ask(sent, options.added - USER - 5, **more, **(named if stateful else {}))
                histories[name].append({"role": "assistant", "content": reply.text})
                found.setdefault(name, []).append(
                    {"first": reply.first, "prompt": reply.prompt, "cached": reply.cached, "tokens": reply.tokens}
                )
                print(f"turn {turn + 1}, {name}: first token after {reply.first:.3f} s", file=sys.stderr)
        for client in clients.values():
            await client.close()
    return found


async def rotation(options: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    """Seconds to the first token of conversations that return, when the cache holds a quarter of them."""
    found: dict[str, Any] = {}
    slot = options.history + (options.rounds + 1) * 96
    with started(names, setting(options, options.room, slot, only_slots=True)) as running:
        clients = {
            name: [Client(server.url, server.model) for _ in range(options.conversations)]
            for name, server in running.items()
        }
        histories = {
            name: [[user(letters(options.history, 100 + i))] for i in range(options.conversations)] for name in running
        }
        for number in range(options.rounds + 1):
            for i in range(options.conversations):
                for name in running:
                    history = histories[name][i]
                    if number:
                        history.append(user(letters(USER, number)))
                    reply = await clients[name][i].ask(history, 16)
                    history.append({"role": "assistant", "content": reply.text})
                    if number:
                        found.setdefault(name, []).append({"first": reply.first, "cached": reply.cached})
            print(f"rotation, round {number} done", file=sys.stderr)
        for client in (one for of in clients.values() for one in of):
            await client.close()
    return found


def show(scenario: str, found: dict[str, Any]) -> None:
    print(f"\n## {scenario}\n")
    if scenario == "streams":
        print("| streams | server | first token | between tokens, p50 | p99 | tokens/s |\n|---|---|---|---|---|---|")
        for count in STREAMS:
            for name, rows in found.items():
                row = rows[str(count)]
                gaps = f"{1e3 * row['gap_p50']:.0f} ms | {1e3 * row['gap_p99']:.0f} ms"
                print(f"| {count} | {name} | {row['first']:.2f} s | {gaps} | {row['tokens_per_second']:.0f} |")
        return
    print("| server | first token, median | last turn | not computed again |\n|---|---|---|---|")
    for name, rows in found.items():
        middle = statistics.median(row["first"] for row in rows[1:])
        cached = sum(row["cached"] or 0 for row in rows)
        print(f"| {name} | {middle:.3f} s | {rows[-1]['first']:.3f} s | {cached} |")


def plot(result: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg" if path.suffix == ".svg" else "agg")
    import matplotlib.pyplot as plt

    shown = [scenario for scenario in ("turns", "thinking") if scenario in result]
    figure, axes = plt.subplots(1, len(shown), figsize=(5.5 * len(shown), 4), sharey=True, squeeze=False)
    for axis, scenario in zip(axes[0], shown, strict=True):
        for name, rows in result[scenario].items():
            axis.plot(range(1, len(rows) + 1), [row["first"] for row in rows], "o-", label=name)
        axis.set_yscale("log")
        axis.set_xlabel("turn")
        axis.set_title({"turns": "the whole reply is sent back", "thinking": "half of each reply is hidden"}[scenario])
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("seconds to the first token")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
