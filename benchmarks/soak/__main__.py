"""Run many clients against one server process for minutes, and check every answer.

Each client draws tasks: conversations that state something and ask for it later, in every kind of session, with turns
that are abandoned and sent again; embeddings; transcriptions if a model for them is served; bad input; requests whose
client disconnects. The right answers are those that the same server gave before, while no other request ran. Memory and
file descriptors of the process are sampled every 5 seconds. With `--adversaries`, clients with a key of their own send
what was made to harm in the second half of the time, and honest ones are to wait little longer. The exit status is 1 if
a requirement of `report.bars` was not met.

    python -m benchmarks.soak --minutes 20 --clients 64 --json soak.json --plot soak.png
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tests" / "support")]

from adversary import attacking
from book import Book
from client import Client, Reference, hold_alone
from process import Process
from report import Run, as_markdown, bars, plot, save
from server import KEYS, Watch, idle, started, transcription_model
from speech import recordings
from talk import make_scripts, words
from tasks import every_kind, press, run_client

SCRIPTS = 48
TEXTS = 40
WARM_UP = 300.0
"""Seconds, at most a third of the run, after which memory has to be stable."""
PRESSING = 16
"""Clients that send large requests at once before the others start."""
ENDING = 120.0
"""Seconds in which the clients must finish what they have started."""


def main() -> int:
    arguments = read_arguments()
    # On SIGTERM it also stops its server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as name:
        directory = Path(arguments.directory or name)
        directory.mkdir(parents=True, exist_ok=True)
        with started(directory, arguments.threads) as process:
            run = asyncio.run(soak(process, arguments))
    found = bars(run)
    print(as_markdown(run, found))
    if arguments.json:
        save(run, found, Path(arguments.json))
    if arguments.plot:
        plot(run, Path(arguments.plot))
    return 0 if all(bar.held for bar in found) else 1


def read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--adversaries", type=int, default=0, help="clients that attack in the second half of the time")
    parser.add_argument("--think", type=float, default=0.5, help="seconds that a client waits between requests (mean)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of the server's torch")
    parser.add_argument("--directory", help="keeps the server's files and log there")
    parser.add_argument("--json")
    parser.add_argument("--plot")
    return parser.parse_args()


async def soak(process: Process, arguments: argparse.Namespace) -> Run:
    url = f"http://127.0.0.1:{process.port}"
    book = Book()
    draw = random.Random(arguments.seed)
    reference, set_aside = await alone(url, draw)
    clients = [
        Client(url, KEYS[number % len(KEYS)], book, random.Random(draw.random())) for number in range(arguments.clients)
    ]
    await every_kind(clients[0])
    await idle(url)
    watch = Watch(process.pid)
    # The connections of before are closed after 5 s.
    await asyncio.sleep(6)
    before = watch.look().files
    stop = asyncio.Event()
    watching = asyncio.create_task(watch.run())
    telling = asyncio.create_task(tell(watch, book))
    begun = time.monotonic()
    await asyncio.gather(*(press(client, reference) for client in clients[:PRESSING]))
    working = [
        asyncio.create_task(run_client(client, reference, arguments.think, stop), name=f"client {number}")
        for number, client in enumerate(clients)
    ]
    ending = begun + arguments.minutes * 60
    attacked = None
    if arguments.adversaries:
        attacked = await attack(
            url, book, seed=draw.randrange(2**31), clients=arguments.adversaries, begun=begun, ending=ending
        )
    await asyncio.sleep(ending - time.monotonic())
    stop.set()
    seconds = time.monotonic() - begun
    _, hanging = await asyncio.wait(working, timeout=ENDING)
    for task in hanging:
        task.cancel()
        book.fail("hangs", task.get_name())
    watching.cancel()
    telling.cancel()
    for client in clients:
        await client.close()
    metrics = await idle(url)
    await asyncio.sleep(6)
    samples, files = list(watch.samples), (before, watch.look().files)
    warm_up, audio = min(WARM_UP, seconds / 3), bool(reference.transcriptions)
    asked = book.done["bad input, a broken model"]
    found = (book, samples, files, metrics, process.log, asked, set_aside, audio)
    return Run(seconds, warm_up, arguments.clients, *found, arguments.adversaries, attacked)


async def attack(url: str, book: Book, *, seed: int, clients: int, begun: float, ending: float) -> float:
    """Wait for the second half of the time, and attack until it ends. Returns when it began."""
    await asyncio.sleep((begun + ending) / 2 - time.monotonic())
    attacked = time.monotonic()
    async with attacking(url, book, clients=clients, seed=seed, ending=ENDING):
        await asyncio.sleep(ending - time.monotonic())
    return attacked


async def alone(url: str, draw: random.Random) -> tuple[Reference, int]:
    """The server's answers while no other request runs, and how many conversations the model itself gets wrong."""
    client = Client(url, KEYS[0], Book(), draw)
    scripts = make_scripts(SCRIPTS, draw.randrange(2**31))
    right = [script for script in scripts if await hold_alone(client, script)]
    if len(right) < SCRIPTS / 2:
        raise RuntimeError(f"the model knows the answers of {len(right)} of {SCRIPTS} conversations only")
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(3, 60))) for _ in range(TEXTS)]
    vectors = [(await client.embed([text]))[0] for text in texts]
    reference = Reference(right, texts, vectors)
    if transcription_model(url) is not None:
        reference.recordings = recordings()
        for name in reference.recordings:
            reference.transcriptions[name] = await client.transcribe(name, reference.recordings[name])
        if not all(reference.transcriptions.values()):
            raise RuntimeError(f"the model hears nothing in a recording: {reference.transcriptions}")
    await client.close()
    return reference, len(scripts) - len(right)


WORDS = words("the a lantern fox river of stone under green old sings walks over seven mountain and rain quiet door")


async def tell(watch: Watch, book: Book) -> None:
    """A line on standard error every half minute."""
    while True:
        await asyncio.sleep(30)
        sample = watch.samples[-1]
        print(
            f"{sample.seconds / 60:5.1f} min: {sample.rss / 2**20:.0f} MiB, {sample.files} files, "
            f"{book.statuses.total()} replies, {book.done['turns']} turns, {book.failures.total()} failures",
            file=sys.stderr,
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
