"""The command ``ark``: each of its commands is a module of `ark.cli`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ark import __version__
from ark.cli import bench, chat, check, completion, embed, key, models, ps, pull, run, serve, transcribe
from ark.cli.client import CommandError
from ark.cli.usage import Help, unrecognized
from ark.config import ConfigError

COMMANDS = (
    serve.add,
    check.add,
    pull.add,
    models.add,
    ps.add,
    run.add,
    chat.add,
    embed.add,
    transcribe.add,
    bench.add,
    key.add,
)
"""Each adds its parser, whose default for `run` is a function that takes the arguments and returns the exit status."""

STATUSES = """\
The exit status is 0 on success, 1 on failure (standard error has the reason), 2 for wrong usage, and 130 after
Ctrl-C."""

_EPILOG = f"""\
to begin with:
  ark serve                 serve three small models, at http://127.0.0.1:8000
  ark chat                  chat with one of them, in another terminal
  ark check ORG/NAME        check whether a model of the hub runs on this machine
  ark serve ORG/NAME        serve it

'ark COMMAND --help' says more about a command.

{STATUSES}
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="ark",
        description="ARK: an inference server behind OpenAI's API that remembers.",
        epilog=_EPILOG,
        formatter_class=Help,
    )
    top.add_argument("--version", action="version", version=f"ark {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    completion.add(commands, parser)
    for command in commands.choices.values():
        command.set_defaults(command=command)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status, one of `STATUSES`."""
    top = parser()
    args, unknown = top.parse_known_args(arguments)
    if unknown:
        # The command's own usage is more specific than that of all of them.
        command = getattr(args, "command", top)
        command.error(unrecognized(unknown, command))
    if not hasattr(args, "run"):
        top.print_help(sys.stderr)
        return 2
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output has closed it, as `head` does. The interpreter must not try to flush what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ConfigError, CommandError) as error:
        print(f"ark: {error}", file=sys.stderr)
        return 1
    return status
