"""``ark chat``: a conversation in the terminal, in a session of the server."""

from __future__ import annotations

import argparse
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ark.commands.client import Client, CommandError, add_server_arguments, need

if TYPE_CHECKING:
    from rich.console import Console

_DESCRIPTION = """\
Talk with a model in a session: the server keeps the conversation and the model's state, and only the new message is
sent. Under each reply stands how much of the prompt the server had computed already, and the time to the first token.

    /new      begin another session
    /session  show the session's id, which --session takes up again
    /quit     leave, as does the end of the input

Input that is not a terminal is taken line by line, each line a message.
"""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "chat",
        help="talk with a model in a session",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_server_arguments(parser)
    parser.add_argument("--model", help="a model of the server; otherwise its first chat model")
    parser.add_argument("--session", metavar="UUID", help="take up this session again, or give a new one its id")
    parser.add_argument("--system", metavar="TEXT", help="the system message of a new session")
    parser.add_argument("--temperature", metavar="T", type=float, help="0 to 2; the model's own when it is not given")
    parser.add_argument("--max-tokens", metavar="N", type=int, help="the longest reply")
    parser.add_argument("--no-reasoning", action="store_true", help="do not show what the model thinks")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    need("rich")
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False, markup=False)
    with Client(args.url, args.key) as client:
        model = client.model(args.model, "chat")
        talk = Talk(client, console, args, model)
        for line in _lines(console, f"{model}, session {talk.session}"):
            word = line.strip()
            if word == "/quit":
                break
            if word == "/new":
                talk.begin()
                console.print(f"session {talk.session}", style="dim")
            elif word == "/session":
                console.print(talk.session)
            elif word:
                try:
                    talk.turn(line)
                except CommandError as error:
                    # The turn is not in the session, so the same message can be sent again.
                    console.print(f"\n{error}", style="red")
                    talk.failed = True
                except KeyboardInterrupt:
                    console.print("\nbroken off: this turn is forgotten", style="dim")
    return 1 if talk.failed and not sys.stdin.isatty() else 0


class Talk:
    """One conversation after another."""

    def __init__(self, client: Client, console: Console, args: argparse.Namespace, model: str) -> None:
        self._client = client
        self._console = console
        self._args = args
        self._model = model
        self.failed = False
        self.session: str = args.session or str(uuid.uuid4())
        self._begun = args.session is not None

    def begin(self) -> None:
        """Leave the session for a new one."""
        self.session, self._begun = str(uuid.uuid4()), False

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
        for chunk in self._client.events("/chat/completions", body):
            usage = chunk.get("usage") or usage
            for choice in chunk.get("choices", ()):
                delta = choice.get("delta", {})
                said, thought = delta.get("content") or "", delta.get("reasoning_content") or ""
                if first is None and (said or thought):
                    first = time.perf_counter() - sent
                if thought and not self._args.no_reasoning:
                    self._console.print(thought, end="", style="dim italic", soft_wrap=True)
                self._console.print(said, end="", soft_wrap=True)
        self._begun = True
        self._console.print()
        self._console.print(summary(usage, first, time.perf_counter() - sent), style="dim")


def summary(usage: dict[str, Any], first: float | None, seconds: float) -> str:
    """How a turn went, in one line: tokens, how many of them were cached, times in ms and s."""
    prompt, reply = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    parts = [f"{cached} of {prompt} prompt tokens cached", f"{reply} in the reply"]
    if first is not None:
        parts.append(f"first token after {first * 1000:.0f} ms")
    return ", ".join([*parts, f"{seconds:.1f} s in all"])


def _lines(console: Console, greeting: str) -> Iterator[str]:
    """What the user types, until the end of the input."""
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
