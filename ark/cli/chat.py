"""``ark chat``: a conversation in the terminal, in a session of the server."""

from __future__ import annotations

import argparse
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ark.cli.client import Client, CommandError, add_server_arguments, require
from ark.cli.usage import Help

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

REFRESH = 10
"""Times a second that the seconds are drawn."""

_DESCRIPTION = """\
Chat with a model in a session: the server keeps the conversation and the model's state, and only the new message is
sent. Below each reply stand the number of cached prompt tokens and the time to the first token. Until the first token
arrives, the seconds run.

    /turns    show these figures for every turn so far
    /new      start another session
    /session  show the session's id, for --session
    /quit     leave, as at the end of the input

Input that is not a terminal is taken line by line, each line a message.
"""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "chat",
        help="chat with a model in a session",
        description=_DESCRIPTION,
        formatter_class=Help,
    )
    add_server_arguments(parser)
    parser.add_argument("--model", help="a model of the server; otherwise its first chat model")
    parser.add_argument(
        "--session", metavar="UUID", type=_uuid, help="continue this session, or start one with this id"
    )
    parser.add_argument("--system", metavar="TEXT", help="the system message of a new session")
    parser.add_argument("--temperature", metavar="T", type=float, help="0 to 2; by default the model's own")
    parser.add_argument("--max-tokens", metavar="N", type=int, help="the longest reply")
    parser.add_argument("--no-reasoning", action="store_true", help="do not show what the model thinks")
    parser.set_defaults(run=run)


def _uuid(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no UUID, such as {uuid.uuid4()}") from error


def run(args: argparse.Namespace) -> int:
    require("rich")
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False, markup=False)
    failures = Console(highlight=False, markup=False, stderr=True)
    with Client(args.url, args.key) as client:
        model = client.model(args.model, "chat")
        chat = Chat(client, console, args, model)
        for line in _lines(console, f"{model}, session {chat.session}"):
            word = line.strip()
            if word == "/quit":
                break
            if word == "/new":
                chat.begin()
                console.print(f"session {chat.session}", style="dim")
            elif word == "/session":
                console.print(chat.session)
            elif word == "/turns":
                console.print(table(chat.turns))
            elif word:
                try:
                    chat.turn(line)
                except CommandError as error:
                    # The turn is not in the session, so the same message can be sent again.
                    failures.print(
                        f"\n{error}" if failures.is_terminal else f"ark: {error}", style="red", soft_wrap=True
                    )
                    chat.failed = True
                except KeyboardInterrupt:
                    console.print("\nbroken off: this turn is forgotten", style="dim")
    return 1 if chat.failed and not sys.stdin.isatty() else 0


@dataclass(frozen=True)
class TurnStats:
    """What one turn cost. Times are in seconds."""

    prompt: int
    """Tokens before the reply, of all turns."""
    cached: int
    """Of them, not computed again."""
    reply: int
    first: float | None
    """From sending the message to the first token of its reply; None where there was none."""
    whole: float

    def __str__(self) -> str:
        parts = [f"{self.cached} of {self.prompt} prompt tokens cached", f"{self.reply} in the reply"]
        if self.first is not None:
            parts.append(f"first token after {self.first * 1000:.0f} ms")
        return ", ".join([*parts, f"{self.whole:.1f} s"])


class Chat:
    """One session after another."""

    def __init__(self, client: Client, console: Console, args: argparse.Namespace, model: str) -> None:
        self._client = client
        self._console = console
        self._args = args
        self._model = model
        self.failed = False
        self.turns: list[TurnStats] = []
        """Of the session."""
        self.session: str = args.session or str(uuid.uuid4())
        self._begun = False

    def begin(self) -> None:
        """Leave the session for a new one."""
        self.session, self._begun = str(uuid.uuid4()), False
        self.turns = []

    def turn(self, text: str) -> None:
        """Send one message and show the reply as it comes. Raises CommandError."""
        messages = [{"role": "user", "content": text}]
        if self._args.system is not None and not self._begun:
            messages.insert(0, {"role": "system", "content": self._args.system})
        body: dict[str, Any] = {
            "model": self._model,
            "messages": messages,
            "ark_stateful": self.session,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        for name in ("temperature", "max_tokens"):
            if getattr(self._args, name) is not None:
                body[name] = getattr(self._args, name)
        sent = time.perf_counter()
        first: float | None = None
        usage: dict[str, Any] = {}
        with waiting(self._console, sent) as stop_waiting:
            for chunk in self._client.events("/chat/completions", body):
                usage = chunk.get("usage") or usage
                for choice in chunk.get("choices", ()):
                    delta = choice.get("delta", {})
                    content, reasoning = delta.get("content") or "", delta.get("reasoning_content") or ""
                    if first is None and (content or reasoning):
                        first = time.perf_counter() - sent
                        stop_waiting()
                    if reasoning and not self._args.no_reasoning:
                        self._console.print(reasoning, end="", style="dim italic", soft_wrap=True)
                    self._console.print(content, end="", soft_wrap=True)
        self._begun = True
        self.turns.append(
            TurnStats(
                prompt=usage.get("prompt_tokens", 0),
                cached=(usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
                reply=usage.get("completion_tokens", 0),
                first=first,
                whole=time.perf_counter() - sent,
            )
        )
        self._console.print()
        self._console.print(str(self.turns[-1]), style="dim")


@contextmanager
def waiting(console: Console, begun: float) -> Iterator[Callable[[], None]]:
    """Show the seconds since `begun` in a terminal; yields the function that ends this."""
    if not console.is_terminal:
        yield lambda: None
        return
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    live = Live(
        get_renderable=lambda: Text(f"{time.perf_counter() - begun:.1f} s", style="dim"),
        console=console,
        transient=True,
        refresh_per_second=REFRESH,
    )
    with live:
        yield live.stop


def table(turns: Sequence[TurnStats]) -> Table:
    """The turns of a session, for a terminal."""
    from rich.table import Table  # noqa: PLC0415

    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("turn", "prompt tokens", "cached", "computed", "reply tokens", "first token, ms", "whole, s"):
        shown.add_column(name, justify="right")
    for number, turn in enumerate(turns, 1):
        first = "" if turn.first is None else f"{turn.first * 1000:.0f}"
        counts = (turn.prompt, turn.cached, turn.prompt - turn.cached, turn.reply)
        shown.add_row(str(number), *(str(count) for count in counts), first, f"{turn.whole:.1f}")
    return shown


def _lines(console: Console, greeting: str) -> Iterator[str]:
    """The lines that the user types, until the end of the input."""
    if not sys.stdin.isatty():
        for line in sys.stdin:
            yield line.rstrip("\n")
        return
    with suppress(ImportError):
        # Editing and a history of lines, where Python was built with it.
        import readline  # noqa: F401, PLC0415
    console.print(greeting, style="dim")
    while True:
        try:
            yield input("> ")
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
