"""The command ``ark``: each of its commands is a module of `ark.commands`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ark import __version__
from ark.commands import bench, chat, check, embed, key, models, pull, serve, transcribe
from ark.commands.client import CommandError
from ark.config import ConfigError

COMMANDS = (
    serve.add,
    check.add,
    pull.add,
    models.add,
    chat.add,
    embed.add,
    transcribe.add,
    bench.add,
    key.add,
)
"""Each adds its parser, with a function as the default of `run` that takes the arguments and returns the status."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="ark",
        description="ARK: an inference server behind OpenAI's API that remembers.",
        epilog="'ark COMMAND --help' tells more of a command.",
    )
    top.add_argument("--version", action="version", version=f"ark {__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0, 1 for what failed, 2 for what was asked wrongly."""
    args = parser().parse_args(arguments)
    try:
        status: int = args.run(args)
    except (ConfigError, CommandError) as error:
        print(f"ark: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return status
