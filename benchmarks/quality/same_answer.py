"""Whether the same greedy request gets the same answer: again, after a restart, and with other requests beside it.

A server over HTTP answers 30 prompts, each twice; the second time the prompt is cached. Then all are asked at once. Of
eight conversations the second turn is asked before and after a restart, which computes the first turn again.

    python benchmarks/quality/same_answer.py MODEL --format int8
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "support")]

from running import Running, serve

from ark.app import create_app
from ark.config import Config, ModelConfig, ServerConfig, SessionsConfig

FORMATS: dict[str, dict[str, Any]] = {
    "float32": {"quantization": "none", "dtype": "float32"},
    "bfloat16": {"quantization": "none", "dtype": "bfloat16"},
    "int8": {"quantization": "int8"},
}
SUBJECTS = ("the sea", "bread", "a river", "trains", "music", "winter", "old books", "bees", "iron", "a lighthouse")
QUESTIONS = ("Write two sentences about {}.", "Why do people like {}?", "Tell a child what is special about {}.")
PROMPTS = [question.format(subject) for question in QUESTIONS for subject in SUBJECTS]
CONVERSATIONS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--format", choices=sorted(FORMATS), default="int8")
    parser.add_argument("--tokens", type=int, default=48)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        config = Config(
            models=(ModelConfig(name="m", path=str(options.model), engine=FORMATS[options.format]),),
            server=ServerConfig(log_level="warning"),
            sessions=SessionsConfig(path=str(Path(directory) / "sessions.sqlite")),
        )
        with serve(create_app(config), seconds=300) as server:
            asked = [ask(server, prompt, options.tokens) for prompt in PROMPTS]
            again = [ask(server, prompt, options.tokens) for prompt in PROMPTS]
            with ThreadPoolExecutor(len(PROMPTS)) as pool:
                together = list(pool.map(lambda prompt: ask(server, prompt, options.tokens), PROMPTS))
            # The same first turn in two sessions, of which one goes on at once.
            kept, lost = ([str(uuid.uuid4()) for _ in range(CONVERSATIONS)] for _ in range(2))
            for names in (kept, lost):
                for name, prompt in zip(names, PROMPTS, strict=False):
                    turn(server, name, prompt, options)
            cached = [turn(server, name, "Say more.", options) for name in kept]
        with serve(create_app(config), seconds=300) as server:
            rebuilt = [turn(server, name, "Say more.", options) for name in lost]
    report(f"{options.format}: asked twice", asked, again)
    report(f"{options.format}: all at once", asked, together)
    report(f"{options.format}: after a restart", cached, rebuilt)


def ask(server: Running, text: str, tokens: int, **more: Any) -> str:
    messages = [{"role": "user", "content": text}]
    body = {"model": "m", "messages": messages, "temperature": 0, "max_tokens": tokens, "ark_stateful": False, **more}
    reply = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=300)
    reply.raise_for_status()
    return str(reply.json()["choices"][0]["message"]["content"])


def turn(server: Running, session: str, text: str, options: argparse.Namespace) -> str:
    return ask(server, text, options.tokens, ark_stateful=session)


def report(what: str, ones: list[str], others: list[str]) -> None:
    same = sum(one == other for one, other in zip(ones, others, strict=True))
    print(f"{what}: {same} of {len(ones)} the same", flush=True)


if __name__ == "__main__":
    main()
