"""The commands' help, and what they say about arguments that they do not know."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches


class Help(argparse.HelpFormatter):
    """Fill prose to the terminal's width, and keep examples, which are indented, as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(_fill(part, width) for part in text.strip("\n").split("\n\n"))

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            # argparse leaves no room for the indentation of the commands.
            self._action_max_length += self._indent_increment


def _fill(paragraph: str, width: int) -> str:
    return paragraph if "\n  " in f"\n{paragraph}" else textwrap.fill(paragraph, width)


def unrecognized(words: Sequence[str], command: argparse.ArgumentParser) -> str:
    """The error for arguments that a command does not know."""
    options = [option for action in command._actions for option in action.option_strings]
    close = [get_close_matches(word.partition("=")[0], options, 1) for word in words if word.startswith("-")]
    suggested = " ".join(dict.fromkeys(found[0] for found in close if found))
    return f"unrecognized arguments: {' '.join(words)}{f'; did you mean {suggested}?' if suggested else ''}"
