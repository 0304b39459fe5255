"""docs/commands.md: the command ``ark`` with every option, from its parsers."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from ark.cli import STATUSES, parser

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"

INTRODUCTION = f"""\
# The command

<!-- Made by `make pages` from tools/docs/commands_page.py -->

To look up an option of `ark`, use this page. [Every way to install ARK](start.md#install-and-serve) installs the
command; `make serve` puts it into `.venv/bin`.

{STATUSES}

| command | what it does |
|---|---|
"""


def page() -> str:
    """The current text of the page."""
    commands = list(subcommands(parser()))
    listed = "".join(f"| [`ark {name}`](#ark-{name}) | {told} |\n" for name, told, _ in commands)
    return "\n".join([INTRODUCTION + listed, *(section(name, command) for name, _, command in commands)])


def subcommands(top: argparse.ArgumentParser) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Name, help and parser of each command, in their order."""
    (action,) = (one for one in top._actions if isinstance(one, argparse._SubParsersAction))
    told = {choice.dest: choice.help or "" for choice in action._choices_actions}
    for name, command in action.choices.items():
        yield name, told[name], command


def section(name: str, command: argparse.ArgumentParser) -> str:
    actions = [action for action in command._actions if not isinstance(action, argparse._HelpAction)]
    places = [shape(action) for action in actions if not action.option_strings]
    usage = " ".join(["ark", name, *["[OPTION ...]"] * (len(places) < len(actions)), *places])
    rows = [f"| {shown(action)} | {plain(action)} |" for action in actions]
    table = "\n".join(["| argument | what it is |", "|---|---|", *rows])
    return f"## `ark {name}`\n\n```text\n{usage}\n```\n\n{code(command.description or '')}\n\n{table}\n"


def shape(action: argparse.Action) -> str:
    """A positional argument as a usage line shows it."""
    name = value(action)
    return {"*": f"[{name} ...]", "?": f"[{name}]"}.get(str(action.nargs), name)


def shown(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{value(action)}`"
    wanted = "" if action.nargs == 0 else f" {value(action)}"
    return ", ".join(f"`{option}{wanted}`" for option in action.option_strings)


def value(action: argparse.Action) -> str:
    if action.choices is not None and action.metavar is None:
        return "{" + ",".join(str(choice) for choice in action.choices) + "}"
    return str(action.metavar or action.dest.upper().replace("_", "-"))


def plain(action: argparse.Action) -> str:
    return " ".join((action.help or "").split()).replace("|", "\\|")


def code(text: str) -> str:
    """Mark quoted commands as code."""
    return re.sub(r"'(ark [^']+)'", r"`\1`", text.strip())
