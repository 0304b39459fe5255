"""A small language for saying one thing in many ways.

`[a|b|]` picks one alternative (nested ones too), `{slot}` is filled in last, so that a change of
casing never touches the value in the slot.
"""

# ruff: noqa: E501 - a phrase is one line, however long

import random
import re
from dataclasses import dataclass
from typing import Literal

from tools.training.chat.lexicon import Split

_INNERMOST = re.compile(r"\[([^\[\]]*)\]")
_SPACES = re.compile(r" {2,}")
_LOOSE = re.compile(r" ([.,?!])(?= |$)")
_ENDS_WITH_SLOT = re.compile(r"\{\w+\}[.?!]*$")
_PLAIN_WORD = re.compile(r"(?<![\w{'])[a-z]{4,}(?![\w}'])")

DO = (
    "[||||||please |please |please |kindly |just |now |now please |can you |could you |would you |will you |can you please "
    "|could you please |could you maybe |would you kindly |maybe you can |I want you to |I'd like you to |I need you to "
    "|you should |you must |you may |you have to |go ahead and |try to |your task is to |your job is to |your task: "
    "|do me a favour and |be so kind and |I ask you to |are you able to |feel free to |next, |then |let's see you |pls ]"
)
"""What may stand before a request: politely, impatiently, as a question or an order."""

Manner = Literal["none", "ask", "tell", "opened"]
"""What people put around what they say: nothing; openers and closers of requests; those of statements; openers only."""

_OPENERS = (
    "[[hey|hi|hello|ok|okay|well|so|um|uh|hm|oh|alright|all right|right|good|great|nice|now|and|but|listen|excuse me|sorry"
    "|pardon|please|say|look|yo|dear assistant|assistant|bot|my friend|friend|ARK|hey ARK|hello ARK|hey bot|hi there"
    "|hello there|ok then|ok so|so then|fine|thanks|thank you|quick one|by the way|anyway|actually|also|next|again"
    "|honestly|seriously|sorry to bother you|if I may ask|just curious|just wondering|I wonder|one thing|good morning"
    "|good evening|sir|wait|ah|yes|no|great job|I see|come on|be honest|before I go|for a change|for the test][,|,|,|.|!|]"
    "|[quick question|one question|one more question|another question|a question|question|my question|request|my request"
    "|new task|task|next task|a small task|here is my question|here is a question|I have a question|I have a request"
    "|let me ask you something|let me ask you|tell me this|let me try something|something else|another thing|one more thing"
    "|can you help me|a favour please|now for something new|my next question|simple question|test|next one|last one|first"
    "|this is what I want|I want to ask|what I want|here we go|now this][:|:|.|,| -]] "
)
_CLOSERS = (
    "[, please|, please|, pls|, thanks|, thank you|, if you can|, if possible|, if you don't mind|, okay|, ok|, my friend"
    "|, ARK|, bot|, will you|, would you|, right now|, quickly|, dear|, please do|, thanks a lot|, come on|- please|- thanks]"
)
_BARE_CLOSERS = "[please|please|pls|plz|now|right now|for me|thanks|thank you|if you can|today|then|again|quickly]"
_TOLD_CLOSERS = (
    "[, okay|, ok|, just so you know|, by the way|, you know|, in case you need it|, thanks|, my friend|, bot|, right"
    "|, as you may know|, to be exact|, for the record|, in fact|, of course]"
)
_TOLD_OPENERS = (
    "[hey|hi|hello|ok|okay|well|so|um|oh|alright|listen|look|now|and|also|good morning|good evening|hi there|hello there"
    "|hey there|by the way|first|first of all|as you may know|you know|in fact|honestly|fyi|just so you know|one thing"
    "|dear assistant|hey bot|hi ARK|hello ARK|thanks|thank you|great|fine|before I forget|before we start|for the record"
    "|to begin with|in case you wonder][,|,|,|.|!|:] "
)


def expand(rng: random.Random, pattern: str) -> str:
    """One reading of a pattern, slots left as they are."""
    while match := _INNERMOST.search(pattern):
        choice = rng.choice(match.group(1).split("|"))
        pattern = pattern[: match.start()] + choice + pattern[match.end() :]
    return _LOOSE.sub(r"\1", _SPACES.sub(" ", pattern)).strip(" ").replace("?.", "?").replace("!.", "!")


def _mistyped(rng: random.Random, text: str) -> str:
    """One longer word with a letter lost, doubled or swapped with its neighbour."""
    words = list(_PLAIN_WORD.finditer(text))
    if not words:
        return text
    word = rng.choice(words)
    at = rng.randrange(word.start() + 1, word.end() - 1)
    changed = rng.choice(("", text[at] * 2, text[at + 1] + text[at]))
    return text[:at] + changed + text[at + (2 if len(changed) == 2 and changed[0] != changed[1] else 1) :]


def _lowered(rng: random.Random, text: str) -> str:
    """A sentence that has become the middle of one."""
    return text if re.match(r"\{|I\b|[A-Z]{2}", text) or rng.random() < 0.25 else text[:1].lower() + text[1:]


def dress(rng: random.Random, text: str, manner: Manner) -> str:
    """What people put before and after what they say, and a slip of the finger now and then."""
    if rng.random() < 0.25:
        text = expand(rng, _TOLD_OPENERS if manner == "tell" else _OPENERS) + " " + _lowered(rng, text)
    if manner != "opened" and rng.random() < 0.13:
        bare = text.rstrip(".?!")
        closers = _TOLD_CLOSERS if manner == "tell" else _CLOSERS
        if manner == "ask" and not _ENDS_WITH_SLOT.search(text) and rng.random() < 0.6:
            closers = _BARE_CLOSERS
        closer = expand(rng, closers)
        text = bare + ("" if closer[0] == "," else " ") + closer + text[len(bare) :]
    return _mistyped(rng, text) if rng.random() < 0.05 else text


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
    manner: Manner = "none"

    def say(self, rng: random.Random, split: Split, **slots: str) -> str:
        """One reading with its slots filled."""
        return self.pattern(rng, split).format(**slots)

    def pattern(self, rng: random.Random, split: Split) -> str:
        """One reading with its slots left open."""
        patterns = self.held_out if split == "held_out" and self.held_out else self.train
        text = expand(rng, rng.choice(patterns))
        if self.manner != "none" and patterns is self.train:
            text = dress(rng, text, self.manner)
        return roughen(rng, text)
