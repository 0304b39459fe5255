"""``ark completion``: the script by which a shell completes the command."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

from ark.cli.client import require
from ark.cli.usage import Help

SHELLS = ("bash", "zsh", "fish")

_DESCRIPTION = """\
Print the script by which a shell completes the commands and options of ark. For an open shell:

    eval "$(ark completion bash)"
    eval "$(ark completion zsh)"
    ark completion fish | source

To keep it, write it where the shell looks for such scripts, and start a new shell:

    ark completion bash > ~/.local/share/bash-completion/completions/ark
    ark completion zsh > "${fpath[1]}/_ark"
    ark completion fish > ~/.config/fish/completions/ark.fish
"""


def add(commands: Any, top: Callable[[], argparse.ArgumentParser]) -> None:
    """`top` makes the parser of the whole command."""
    parser = commands.add_parser(
        "completion",
        help="print the script by which a shell completes this command",
        description=_DESCRIPTION,
        formatter_class=Help,
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads it")
    parser.set_defaults(run=lambda args: run(args, top()))


def run(args: argparse.Namespace, top: argparse.ArgumentParser) -> int:
    shtab = require("shtab")
    for action in _actions(top):
        # An option's MODEL is one of a server, so no file completes it.
        if action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]
        elif action.metavar == "MODEL" and not action.option_strings:
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
    print(shtab.complete(top, shell=args.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)
