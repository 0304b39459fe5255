"""Kill a server in the middle of its turns, again and again, and check after each time what its sessions know.

Each life is a fork of this process that serves the same file of sessions to several clients: turns of new and of old
sessions, streams, deletions, clients that leave. It says what it begins and what a client has got the whole reply of,
and is killed at a random moment, now and then while it starts. The next life reads the file first: every turn whose
reply had ended is there, one in progress is there whole or not at all, and nothing else. The exit status is 1 if not.

    python benchmarks/sessions/kill.py --kills 10000
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import anyio
import msgspec
from echo_backend import ByteTokenizer

from ark.app import Ark
from ark.config import Config
from ark.sessions.sqlite_file import SqliteFile
from ark.sessions.transcript import Transcript, unpack_tokens

CLIENTS = 6
LIVE = 25
"""Sessions of a client that are continued; beyond them it deletes."""
LONGEST_LIFE = 0.1
"""Seconds behind the check."""
IN_THE_START = 0.05
"""Share of the lives that are ended while they start."""
ALIVE = 30.0
"""Seconds after which a life that does not get as far as its turns is a fault."""


class Ledger:
    """What a life has said, by the number of the session."""

    def __init__(self) -> None:
        self.turns: dict[int, int] = {}
        """Turns whose reply a client has whole."""
        self.begun: dict[int, int] = {}
        """What was in progress: the number of the turn, 0 for a deletion."""
        self.deleted: deque[int] = deque(maxlen=500)
        self.problems: list[str] = []
        self.checked = self.committed = self.saved = 0

    def read(self, line: str) -> None:
        kind, _, rest = line.partition(" ")
        if kind == "problem":
            self.problems.append(rest)
            return
        if kind == "checked":
            self.checked += 1
            self.begun.clear()
            return
        number, turn = map(int, rest.split())
        if kind == "begin":
            self.begun[number] = turn
            return
        self.saved += kind == "found" and turn > self.turns.get(number, 0)
        self.committed += kind == "end"
        self.begun.pop(number, None)
        if turn:
            self.turns[number] = turn
        else:
            self.turns.pop(number, None)
            self.deleted.append(number)

    def check(self, found: dict[int, int]) -> Iterator[str]:
        """What is wrong with the turns that sessions have in the file, and what became of those in progress."""
        for number in {*self.turns, *self.begun, *self.deleted, *found}:
            there, known = found.get(number, 0), self.turns.get(number, 0)
            if there not in {known, self.begun.get(number, known)}:
                yield f"problem session {number} has {there} turns, and not {known}"
            elif number in self.begun:
                yield f"found {number} {there}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    draw, ledger, started = random.Random(arguments.seed), Ledger(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(warm_up, Path(folder) / "other.sqlite")
        path, interrupted = Path(folder) / "sessions.sqlite", 0
        for kill in range(1, arguments.kills + 1):
            live_and_die(path, ledger, draw)
            interrupted += len(ledger.begun)
            damaged = [file.name for file in Path(folder).iterdir() if "damaged" in file.name]
            if ledger.problems or damaged:
                print(*ledger.problems[:20], *damaged, sep="\n")
                return 1
            if kill % 500 == 0 or kill == arguments.kills:
                print(
                    f"{kill} kills, {ledger.checked} checks, {ledger.committed} turns ended, {interrupted} cut off, "
                    f"{ledger.saved} of them saved whole, {time.monotonic() - started:.0f} s",
                    flush=True,
                )
    return 0


def live_and_die(path: Path, ledger: Ledger, draw: random.Random) -> None:
    """One life of the server, and what it has said."""
    seed, early, longest = draw.random(), draw.random() < IN_THE_START, draw.uniform(0, LONGEST_LIFE)
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        live(path, ledger, random.Random(seed), into)
    os.close(into)
    seen, deadline = b"", time.monotonic() + ALIVE
    # A life begins with its check; those that end early are not waited for.
    while not early and b"checked\n" not in seen and time.monotonic() < deadline:
        if select.select([out], [], [], 0.1)[0]:
            piece = os.read(out, 65536)
            seen += piece
            if not piece:
                break
    time.sleep(longest)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while piece := os.read(out, 65536):
        seen += piece
    os.close(out)
    if not early and b"checked\n" not in seen:
        ledger.problems.append("a life ended before its first turn")
    for line in seen.decode().splitlines():
        ledger.read(line)


def live(path: Path, ledger: Ledger, draw: random.Random, into: int) -> NoReturn:
    """A life, in a process of its own."""

    def say(line: str) -> None:
        os.write(into, f"{line}\n".encode())

    try:
        for line in ledger.check(read(path)):
            say(line)
            ledger.read(line)
        anyio.run(serve, made(path), ledger, draw, say)
    except BaseException as error:  # noqa: BLE001 - it must not go on as the parent
        said = "".join(traceback.format_exception(error))
        say(f"problem {said}".replace("\n", " / "))
    os._exit(1)


def made(path: Path) -> Ark:
    model = {"name": "echo", "backend": "echo_backend:EchoBackend", "context_length": 10**8}
    return Ark(msgspec.convert({"sessions": {"path": str(path)}, "models": [model]}, Config))


async def warm_up(path: Path) -> None:
    """Import all that a life needs, which takes longer than a life."""
    app = made(path)
    async with app.lifespan():
        await ask(
            app, "POST", "/v1/chat/completions", {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
        )


def read(path: Path) -> dict[int, int]:
    """The turns of each session in the file. Raises AssertionError where one is not as it was said."""
    file, found = SqliteFile(path), dict[int, int]()
    for session in file.open().sessions:
        number = int(session.id[-12:])
        (conversation,) = session.conversations.values()
        found[number] = check_transcript(number, conversation.transcript)
    file.close()
    return found


def check_transcript(number: int, transcript: Transcript) -> int:
    texts = [message.data["content"] for message in transcript.messages]
    turns = len(texts) // 2
    assert texts == [text(number, turn) for turn in range(1, turns + 1) for _ in "ab"], f"session {number} is torn"
    assert len(transcript.seams) == turns, f"session {number} has {len(transcript.seams)} seams"
    said = ByteTokenizer().decode(unpack_tokens(transcript.tokens))
    assert all(said.count(one) >= 2 for one in texts), f"the ids of session {number} are torn"
    return turns


def text(number: int, turn: int) -> str:
    """What is said in a turn."""
    return f"{number}/{turn}:" + "abcdefgh" * (4000 if (number + turn) % 40 == 0 else (7 * number + turn) % 50)


async def serve(app: Ark, ledger: Ledger, draw: random.Random, say: Any) -> None:
    async with app.lifespan():
        services = app.services
        assert services is not None
        await services.registry.models[0].ready()
        say("checked")
        async with anyio.create_task_group() as tasks:
            for client in range(CLIENTS):
                mine = {n: turns for n, turns in ledger.turns.items() if n % CLIENTS == client}
                following = max([*mine, *(n for n in ledger.deleted if n % CLIENTS == client), client], default=client)
                tasks.start_soon(talk, app, mine, following, random.Random(draw.random()), say)


async def talk(app: Ark, mine: dict[int, int], last: int, draw: random.Random, say: Any) -> None:
    """A client: it never stops, and tells what it begins and what it has got."""
    while True:
        if len(mine) > LIVE:
            number = draw.choice([*mine])
            del mine[number]
            say(f"begin {number} 0")
            await ask(app, "DELETE", f"/v1/sessions/{name(number)}")
            say(f"end {number} 0")
            continue
        if not mine or draw.random() < 0.2:
            last += CLIENTS
            number, turn = last, 1
        else:
            number = draw.choice([*mine])
            turn = mine[number] + 1
        say(f"begin {number} {turn}")
        messages, leaves = [{"role": "user", "content": text(number, turn)}], draw.random() < 0.05
        body = {"model": "echo", "messages": messages, "ark_stateful": name(number), "stream": draw.random() < 0.5}
        if await ask(app, "POST", "/v1/chat/completions", body, leave=draw.randrange(1, 9) if leaves else None):
            mine[number] = turn
            say(f"end {number} {turn}")
        else:
            # Whether it was saved is the next life's to see.
            mine.pop(number, None)


def name(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


async def ask(app: Ark, method: str, path: str, body: Any = None, *, leave: int | None = None) -> bool:
    """Send a request. Whether its whole reply came: the client leaves behind so many messages of it."""
    sent, gone = [{"type": "http.request", "body": b"" if body is None else msgspec.json.encode(body)}], anyio.Event()
    received = 0

    async def receive() -> Any:
        if sent:
            return sent.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal received
        await anyio.lowlevel.checkpoint()
        assert message.get("status", 200) < 300, f"{message} to {method} {path}"
        received += 1
        if received == leave or not message.get("more_body", True):
            gone.set()

    headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
    await app({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
    return leave is None


if __name__ == "__main__":
    sys.exit(main())
