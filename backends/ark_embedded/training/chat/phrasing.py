"""A small language for saying one thing in many ways.

`[a|b|]` picks one alternative (nested ones too), `{slot}` is filled in last, so that a change of
casing never touches the value in the slot.
"""

import random
import re
from dataclasses import dataclass

from ark_embedded.training.chat.lexicon import Split

_INNERMOST = re.compile(r"\[([^\[\]]*)\]")
_SPACES = re.compile(r" {2,}")
_LOOSE = re.compile(r" ([.,?!])(?= |$)")


def expand(rng: random.Random, pattern: str) -> str:
    """One reading of a pattern, slots left as they are."""
    while match := _INNERMOST.search(pattern):
        choice = rng.choice(match.group(1).split("|"))
        pattern = pattern[: match.start()] + choice + pattern[match.end() :]
    return _LOOSE.sub(r"\1", _SPACES.sub(" ", pattern)).strip(" ").replace("?.", "?").replace("!.", "!")


def roughen(rng: random.Random, text: str) -> str:
    """Casing and final punctuation as people type them. Slots stay as they are."""
    kind = rng.random()
    if kind < 0.2:
        text = re.sub(r"\{\w+\}|.", lambda m: m.group() if m.group()[0] == "{" else m.group().lower(), text)
    elif kind < 0.3 and text[:1] != "{":
        text = text[:1].lower() + text[1:]
    elif text[:1] != "{":
        text = text[:1].upper() + text[1:]
    if rng.random() < 0.2:
        text = text.rstrip(".!?")
    elif rng.random() < 0.06 and text[-1:] == ".":
        text = text[:-1] + "!"
    return text


@dataclass(frozen=True)
class Phrases:
    """The ways to say one thing; `held_out` ones are never trained on."""

    train: tuple[str, ...]
    held_out: tuple[str, ...] = ()

    def say(self, rng: random.Random, split: Split, **slots: str) -> str:
        """One reading with its slots filled."""
        return self.pattern(rng, split).format(**slots)

    def pattern(self, rng: random.Random, split: Split) -> str:
        """One reading with its slots left open."""
        patterns = self.held_out if split == "held_out" and self.held_out else self.train
        return roughen(rng, expand(rng, rng.choice(patterns)))
