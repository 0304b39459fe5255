"""Take thousands of turns of conversations that are alike in several keys, without cookies, and look for leaks.

Two models are asked. One thinks of something secret before each reply and looks for it in every prompt. The other is a
small random one on the real engine, whose greedy replies have to be those to the same messages in no session. The
sessions are too few and the KV cache too small for all conversations, and the server restarts several times. The exit
status is 1 if anything was found.

    python benchmarks/sessions/isolation.py --turns 5000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import anyio

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "tests" / "support"), str(HERE.parents[1] / "examples")]

import canaries
from asgi_client import Client
from tiny_model import save_tiny_llama


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5000)
    parser.add_argument("--conversations", type=int, default=64, help="of each of the four keys")
    options = parser.parse_args()
    begun = time.monotonic()
    leaks = anyio.run(look_for_canaries, options)
    others = anyio.run(compare_with_cold, options)
    print(f"{leaks} leaks, {others} replies that differ from cold ones, {time.monotonic() - begun:.0f} s")
    return int(bool(leaks or others))


async def look_for_canaries(options: argparse.Namespace) -> int:
    models = [{"name": "canaries", "backend": "canaries:Canaries"}]
    with tempfile.TemporaryDirectory() as name:
        how = await drive(Path(name), models, options)
    print(f"canaries: {dict(how)}, {canaries.SEEN.own} thoughts remembered")
    return len(canaries.SEEN.leaks)


async def compare_with_cold(options: argparse.Namespace) -> int:
    others: list[str] = []

    async def check(client: Client, sent: list[dict[str, Any]], said: str) -> None:
        body = {"model": "tiny", "messages": sent, "temperature": 0, "max_tokens": 8, "ark_stateful": False}
        headers = [("authorization", "Bearer cold")]
        reply = await client.request("POST", "/v1/chat/completions", json=body, headers=headers)
        cold = reply.json()["choices"][0]["message"]["content"]
        if cold != said:
            others.append(f"{said!r} is not {cold!r}")

    with tempfile.TemporaryDirectory() as name:
        save_tiny_llama(Path(name), context_length=4096)
        engine = {"dtype": "float32", "threads": 1, "kv_bytes": 20_000_000}
        models = [{"name": "tiny", "path": name, "engine": engine}]
        more = {"temperature": 0, "max_tokens": 8}
        how = await drive(Path(name), models, options, check=check, more=more)
    print(f"random model: {dict(how)}")
    return len(others)


async def drive(
    directory: Path, models: list[dict[str, Any]], options: argparse.Namespace, **more: Any
) -> Counter[str]:
    return await canaries.drive(
        directory,
        models=models,
        turns=options.turns,
        conversations=options.conversations,
        max_sessions=200,
        max_bytes=1_500_000,
        **more,
    )


if __name__ == "__main__":
    raise SystemExit(main())
