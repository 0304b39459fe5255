"""How the commands tell what they take: their help, and what was not understood."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches


class Help(argparse.HelpFormatter):
    """Prose as wide as the terminal, and examples, which are indented, as they are written."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(_fill(part, width) for part in text.strip("\n").split("\n\n"))

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            # Commands are indented, for which argparse leaves no room.
            self._action_max_length += self._indent_increment


def _fill(paragraph: str, width: int) -> str:
    return paragraph if "\n  " in f"\n{paragraph}" else textwrap.fill(paragraph, width)


def not_understood(words: Sequence[str], command: argparse.ArgumentParser) -> str:
    """What is said of arguments that a command does not know."""
    options = [option for action in command._actions for option in action.option_strings]
    near = [get_close_matches(word.partition("=")[0], options, 1) for word in words if word.startswith("-")]
    meant = " ".join(dict.fromkeys(found[0] for found in near if found))
    return f"unrecognized arguments: {' '.join(words)}{f'; did you mean {meant}?' if meant else ''}"
