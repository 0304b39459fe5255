"""``ark bench``: put load on a server and measure it."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from ark.cli.client import (
    CONNECT,
    Client,
    CommandError,
    add_server_arguments,
    aread_events,
    base_url,
    error_message,
    headers,
    require,
)
from ark.cli.usage import Help

if TYPE_CHECKING:
    import httpx
    from rich.table import Table

_DESCRIPTION = """\
Put load on a server: several clients at once, each with one streamed chat request after another. A live table shows
the time to the first token, the time between tokens, and the tokens per second of all clients.

Prompts are random words, different for every request, so that no cache helps, unless you repeat a --seed. With --turns
each client chats in a session, of which only the first turn is new to the server.
"""

WORDS = (
    "amber",
    "basin",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "harbor",
    "island",
    "kettle",
    "lantern",
    "meadow",
)
REFRESH = 4
"""Times a second that the live table is drawn."""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "bench",
        help="put load on a server and measure it",
        description=_DESCRIPTION,
        formatter_class=Help,
    )
    add_server_arguments(parser, positional=True)
    parser.add_argument("--model", help="a model of the server; otherwise its first chat model")
    parser.add_argument("--clients", metavar="N", type=_positive, default=4, help="streams at once (4)")
    parser.add_argument(
        "--requests", metavar="N", type=_positive, default=32, help="requests of all clients together (32)"
    )
    parser.add_argument("--prompt-words", metavar="N", type=_positive, default=100, help="words of a message (100)")
    parser.add_argument("--max-tokens", metavar="N", type=_positive, default=64, help="the longest reply (64)")
    parser.add_argument(
        "--turns", metavar="N", type=_positive, default=1, help="turns of each session; 1 is without sessions (1)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, help="seed of the prompts' words; different each time by default"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON instead of a table")
    parser.set_defaults(run=run)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


@dataclass
class Measurements:
    """What was measured so far. Times are in seconds."""

    first: list[float] = field(default_factory=list)
    """From sending a request to the first token of its reply."""
    between: list[float] = field(default_factory=list)
    """Between two chunks of a reply."""
    whole: list[float] = field(default_factory=list)
    """From sending a request to the end of its reply."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    reply_tokens: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    begun: float = 0.0
    ended: float | None = None

    @property
    def seconds(self) -> float:
        return (time.perf_counter() if self.ended is None else self.ended) - self.begun

    def count_failure(self, reason: str) -> None:
        self.failures[reason] = self.failures.get(reason, 0) + 1

    def summary(self) -> dict[str, Any]:
        """The measurements as JSON has them: times in ms."""
        return {
            "requests": len(self.whole),
            "failures": self.failures,
            "seconds": round(self.seconds, 3),
            "requests_per_second": round(len(self.whole) / self.seconds, 3),
            "tokens_per_second": round(self.reply_tokens / self.seconds, 3),
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "completion_tokens": self.reply_tokens,
            "first_token_ms": _ms(self.first),
            "between_tokens_ms": _ms(self.between),
            "whole_reply_ms": _ms(self.whole),
        }


def _ms(times: Sequence[float]) -> dict[str, float | None]:
    return {f"p{p}": None if not times else round(percentile(times, p) * 1000, 3) for p in (50, 90, 99)}


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that at least `percent` of them do not exceed. There is at least one value."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def run(args: argparse.Namespace) -> int:
    if not args.json:
        require("rich")
    with Client(args.url, args.key) as client:
        model = client.model(args.model, "chat")
    if args.seed is None:
        # The server may still have the state of an earlier run's prompts.
        args.seed = random.getrandbits(32)
    measured = Measurements()
    status = 0
    try:
        anyio.run(_load, args, base_url(args.url), model, measured)
    except KeyboardInterrupt:
        # Report what was measured until then.
        status = 130
    measured.ended = time.perf_counter()
    if args.json:
        print(json.dumps(measured.summary(), indent=2))
    else:
        from rich.console import Console  # noqa: PLC0415

        Console().print(table(measured))
        print(summary_line(measured))
        for reason, times in measured.failures.items():
            print(f"ark: {times} failed: {reason}", file=sys.stderr)
    return status or (1 if measured.failures or not measured.whole else 0)


async def _load(args: argparse.Namespace, url: str, model: str, measured: Measurements) -> None:
    httpx = require("httpx")
    limits = httpx.Limits(max_connections=args.clients, max_keepalive_connections=args.clients)
    timeout = httpx.Timeout(None, connect=CONNECT)
    left = iter(range(args.requests))
    measured.begun = time.perf_counter()
    async with (
        httpx.AsyncClient(base_url=url, timeout=timeout, limits=limits, headers=headers(args.key)) as http,
        anyio.create_task_group() as tasks,
    ):
        if not args.json:
            tasks.start_soon(_show, measured)
        async with anyio.create_task_group() as clients:
            for _ in range(min(args.clients, args.requests)):
                clients.start_soon(_client, http, model, args, left, measured)
        tasks.cancel_scope.cancel()


async def _show(measured: Measurements) -> None:
    """Draw the measurements in a terminal, until cancelled."""
    from rich.console import Console, Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:
        return
    with Live(console=console, refresh_per_second=REFRESH, transient=True) as live:
        while True:
            live.update(Group(table(measured), summary_line(measured)))
            await anyio.sleep(1 / REFRESH)


async def _client(
    http: httpx.AsyncClient, model: str, args: argparse.Namespace, left: Iterator[int], measured: Measurements
) -> None:
    session, turn = "", 0
    for number in left:
        chosen = random.Random(f"{args.seed} {number}")
        words = [f"{chosen.choice(WORDS)}{chosen.randrange(100)}" for _ in range(args.prompt_words)]
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": "user", "content": " ".join(words)}],
            "max_tokens": args.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if args.turns > 1:
            if turn % args.turns == 0:
                session = str(uuid.uuid4())
            turn += 1
            body["ark_stateful"] = session
        try:
            await _request(http, body, measured)
        except CommandError as error:
            measured.count_failure(str(error))
            # The session may be without this turn, or not be there at all.
            turn = 0


async def _request(http: httpx.AsyncClient, body: dict[str, Any], measured: Measurements) -> None:
    """Send one request and measure it. Raises CommandError."""
    httpx = require("httpx")
    sent = last = time.perf_counter()
    first: float | None = None
    usage: dict[str, Any] = {}
    try:
        async with http.stream("POST", "chat/completions", json=body) as reply:
            if reply.is_error:
                raise CommandError(error_message(reply.status_code, await reply.aread()))
            async for chunk in aread_events(reply.aiter_lines()):
                usage = chunk.get("usage") or usage
                delta: dict[str, Any] = next((choice.get("delta", {}) for choice in chunk.get("choices", ())), {})
                if not any(delta.get(name) for name in ("content", "reasoning_content", "tool_calls")):
                    continue
                now = time.perf_counter()
                if first is None:
                    first = now - sent
                else:
                    measured.between.append(now - last)
                last = now
    except httpx.HTTPError as error:
        raise CommandError(f"the connection broke off: {type(error).__name__}") from error
    if first is not None:
        measured.first.append(first)
    measured.whole.append(time.perf_counter() - sent)
    measured.prompt_tokens += usage.get("prompt_tokens", 0)
    measured.cached_tokens += (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    measured.reply_tokens += usage.get("completion_tokens", 0)


def table(measured: Measurements) -> Table:
    """The measurements so far, for a terminal."""
    from rich.table import Table  # noqa: PLC0415

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "p50", "p90", "p99"):
        shown.add_column(name, justify="right" if name else "left")
    rows = (
        ("first token, ms", measured.first),
        ("between tokens, ms", measured.between),
        ("whole reply, ms", measured.whole),
    )
    for name, times in rows:
        shown.add_row(name, *("" if value is None else f"{value:.1f}" for value in _ms(times).values()))
    return shown


def summary_line(measured: Measurements) -> str:
    """The line below the table."""
    seconds = max(measured.seconds, 1e-9)
    failed = sum(measured.failures.values())
    return (
        f"{len(measured.whole)} requests, {failed} failed, {measured.reply_tokens / seconds:.1f} tokens/s, "
        f"{measured.cached_tokens} of {measured.prompt_tokens} prompt tokens cached"
    )
