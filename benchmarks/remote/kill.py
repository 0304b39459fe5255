"""Kill one of two engines in the middle of the turns of many sessions, and check every answer.

Two of llama.cpp's servers with a small random model, ARK in front of them, and as many clients as sessions, which send
a turn again that failed. Afterwards each answer has to be the one that the other engine gives to the whole conversation
by itself. The exit status is 1 if not.

    python benchmarks/remote/kill.py --sessions 64
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))

from llama_server import llama_server
from remote_conversations import kill_one, wrong_turns
from running import serve
from tiny_gguf import CONTEXT, save_tiny_gguf

from ark.app import create_app
from ark.config import Config, ModelConfig, SamplingConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--turns", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        weights = Path(place) / "tiny.gguf"
        save_tiny_gguf(weights)
        slots = {"slots": min(16, options.sessions), "slot_tokens": CONTEXT // 16}
        with llama_server(weights, **slots) as one, llama_server(weights, **slots) as other:
            engine = {"url": [one.url, other.url], "health_seconds": 1.0}
            model = ModelConfig(
                name="far", path=str(weights), backend="remote", engine=engine, sampling=SamplingConfig(temperature=0.0)
            )
            with serve(create_app(Config(models=(model,)))) as server:
                conversations = kill_one(server, one, options.sessions, options.turns)
                status = server.settle()
            wrong = wrong_turns(conversations, other, weights)
    how = Counter(session.split(";")[1].strip() for found in conversations for session in found.sessions)
    lost = sum(len({session.partition(";")[0] for session in found.sessions}) > 1 for found in conversations)
    print(f"{options.sessions} sessions, {options.turns} turns each: {dict(how)}")
    print(f"turns that failed and were sent again: {sum(found.failed for found in conversations)}")
    print(f"wrong answers: {len(wrong)}; sessions that began anew: {lost}")
    print(*(f"{one.url}: {one.finished} finished, {one.failed} failed" for one in status.upstreams), sep="\n")
    print(*wrong[:10], sep="\n")
    sys.exit(bool(wrong or lost))


if __name__ == "__main__":
    main()
