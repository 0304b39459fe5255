"""Measure the session store's operations by the number of sessions in it. The columns should be equal.

python benchmarks/sessions/store.py
"""

from __future__ import annotations

import random
import statistics
import time
import uuid
from collections.abc import Callable

from ark.config import SessionsConfig
from ark.sessions.store import SessionStore
from ark.sessions.transcript import Seam, Transcript, pack_tokens, read_message, read_messages

SIZES = (100, 1_000, 10_000, 100_000)
ROUNDS = 2_000


def main() -> None:
    rows = {
        "turn of a live session": turn,
        "turn that is found by its messages": found_turn,
        "turn that evicts another session": evicting_turn,
        "read one session": read,
        "list a page of sessions": page,
    }
    print("microseconds, median | " + " | ".join(f"{size:,} sessions" for size in SIZES))
    for name, operation in rows.items():
        cells = [f"{measure(size, operation):.1f}" for size in SIZES]
        print(f"{name} | " + " | ".join(cells))


class Filled:
    """A full store."""

    def __init__(self, size: int) -> None:
        self.now = 0.0
        config = SessionsConfig(max_sessions=size, max_bytes=2**40)
        self.store = SessionStore(config, clock=lambda: self.now)
        self.names = [str(uuid.uuid4()) for _ in range(size)]
        self.draw = random.Random(0)
        for name in self.names:
            self.take_turn(name)

    def take_turn(self, name: str) -> None:
        lease = self.store.lease_named("", name)
        messages = read_messages([{"role": "user", "content": "hello"}])
        past = self.store.resume(lease, messages, "model")
        self.store.commit(lease, Transcript("model", "", past.messages[:4], pack_tokens(range(64)), ()))
        self.now += 0.0001


def turn(filled: Filled) -> None:
    filled.take_turn(filled.draw.choice(filled.names))


def found_turn(filled: Filled) -> None:
    """Of one of the conversations, which are as many as the named sessions at most."""
    number = filled.draw.randrange(min(len(filled.names), 1_000))
    messages = [{"role": "user", "content": f"hello {number}"}, {"role": "assistant", "content": "hi"}]
    sent = read_messages([*messages, {"role": "user", "content": "and then?"}])
    lease = filled.store.lease_cookie("", None, messages=sent, scopes=[("content", b"tools")])
    past = filled.store.resume(lease, sent, "model")
    reply = read_message(messages[1], past.messages[0])
    seam = Seam(1, 0, 64, True, 0, b"", "")
    transcript = Transcript("model", "", (past.messages[0], reply), pack_tokens(range(64)), (seam,))
    filled.store.commit(lease, transcript)
    filled.now += 0.0001


def evicting_turn(filled: Filled) -> None:
    filled.take_turn(str(uuid.uuid4()))


def read(filled: Filled) -> None:
    filled.store.describe("", filled.draw.choice(filled.names))


def page(filled: Filled) -> None:
    filled.store.describe_all("", limit=20, after=filled.draw.choice(filled.names))


def measure(size: int, operation: Callable[[Filled], None]) -> float:
    filled = Filled(size)
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        operation(filled)
        times.append(time.perf_counter() - begun)
    return statistics.median(times) * 1e6


if __name__ == "__main__":
    main()
