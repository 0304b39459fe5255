"""A conversation of twelve turns with vLLM alone, and with ARK in front of it.

vLLM runs already, with its prefix cache on and the chat model of ARK's tests (`make test-engines` shows how). The
client sends what clients send: the messages so far, without the reasoning of the replies. Alone, vLLM renders them
anew, and its cache ends where the first reasoning is gone. ARK continues the conversation's own tokens.

For each turn: the tokens of the prompt that vLLM had to compute, and the time to the first token. Then the processor
time that ARK takes for a token of a stream. Medians of so many conversations, taken in turns.

    python benchmarks/remote/front.py --vllm http://127.0.0.1:8000
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support")]

import httpx
import psutil
from fixture_models import TINY_CHAT
from serving import serving

TURNS = 12
LENGTH = 160
QUESTIONS = (
    "I am number {}. Think of a secret code word. Keep it in your reasoning and do not tell me yet.",
    "Tell me a story about a fox.",
)


class Turn(NamedTuple):
    prompt: int
    computed: int
    first_token: float
    tokens: int


def turn(client: httpx.Client, messages: Sequence[Any], user: str) -> tuple[Turn, str]:
    """Takes a turn; returns its reply without the reasoning."""
    body = {
        "model": "tiny-chat",
        "messages": messages,
        "max_tokens": LENGTH,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": user,
    }
    started, first, text, usage = time.perf_counter(), 0.0, "", {}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line[6:])
            usage = chunk.get("usage") or usage
            for choice in chunk["choices"]:
                delta = choice["delta"]
                if not first and (delta.get("content") or delta.get("reasoning_content")):
                    first = time.perf_counter() - started
                text += delta.get("content") or ""
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    # vLLM alone leaves the reasoning in the text.
    text = re.sub(r"(?s)^.*</think>\s*", "", text)
    prompt = usage["prompt_tokens"]
    return Turn(prompt, prompt - cached, first, usage["completion_tokens"]), text


def conversation(client: httpx.Client, number: int) -> list[Turn]:
    messages: list[Any] = []
    turns = []
    for turn_number in range(TURNS):
        question = QUESTIONS[turn_number % len(QUESTIONS)].format(number)
        messages.append({"role": "user", "content": question})
        found, text = turn(client, messages, f"{number}")
        messages.append({"role": "assistant", "content": text})
        turns.append(found)
    return turns


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", required=True)
    parser.add_argument("--conversations", type=int, default=5)
    options = parser.parse_args()
    config = (
        f'[[models]]\nname = "tiny-chat"\npath = "{TINY_CHAT}"\nbackend = "remote"\n'
        f'sampling = {{ temperature = 0.0 }}\nengine = {{ url = "{options.vllm}" }}\n'
    )
    found: dict[str, list[list[Turn]]] = {"vLLM alone": [], "ARK and vLLM": []}
    with (
        tempfile.TemporaryDirectory() as place,
        serving(Path(place), config, program="ark") as server,
        httpx.Client(base_url=options.vllm, timeout=300) as alone,
    ):
        process = psutil.Process(server.pid)
        busy = tokens = 0.0
        for number in range(options.conversations):
            found["vLLM alone"].append(conversation(alone, number))
            before = sum(process.cpu_times()[:2])
            found["ARK and vLLM"].append(conversation(server.client, number))
            busy += sum(process.cpu_times()[:2]) - before
            tokens += sum(one.tokens for one in found["ARK and vLLM"][-1])
    print(f"load {psutil.getloadavg()[0]:.1f}")
    print("turn | prompt tokens computed, of all: alone, with ARK | first token in ms: alone, with ARK")
    for index in range(TURNS):
        cells = []
        for turns in found.values():
            these = [one[index] for one in turns]
            cells.append(
                (
                    median(t.computed for t in these),
                    median(t.prompt for t in these),
                    median(t.first_token for t in these),
                )
            )
        (a, ap, at), (b, bp, bt) = cells
        print(f"{index + 1:4} | {a:5.0f} of {ap:5.0f}, {b:5.0f} of {bp:5.0f} | {1000 * at:6.1f}, {1000 * bt:6.1f}")
    for name, turns in found.items():
        print(f"{name}: {median(sum(one.computed for one in these) for these in turns):.0f} prompt tokens computed")
    print(f"ARK's processor time: {1e6 * busy / tokens:.0f} us per token, requests included")


if __name__ == "__main__":
    main()
