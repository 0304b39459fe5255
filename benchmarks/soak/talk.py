"""Conversations with known answers: a session is asked, some turns later, for what it was told."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field


def words(text: str) -> list[str]:
    return text.split()


NAMES = words(
    "Ada Ben Clara David Elena Felix Grace Hugo Iris Jack Kate Leo Maria Nora Oscar Paula Robert Sofia Tom Vera"
)
COLOURS = words("red blue green yellow orange purple pink brown black white violet indigo gold silver cyan teal")
CITIES = words("Paris London Berlin Rome Madrid Vienna Prague Oslo Helsinki Lisbon Dublin Athens Warsaw Boston Lima")
DOGS = words("Rex Bella Otto Mia Max Luna Finn Kira Sam Zoe")

FACTS = {
    "name": ("Hello, my name is {}.", "What is my name?", "Your name is {}.", NAMES),
    "colour": ("My favourite colour is {}.", "What is my favourite colour?", "Your favourite colour is {}.", COLOURS),
    "city": ("I live in {}.", "Where do I live?", "You live in {}.", CITIES),
    "dog": ("Remember that my dog is called {}.", "What is my dog called?", "Your dog is called {}.", DOGS),
    "number": ("Remember that the number is {}.", "What is the number?", "The number is {}.", ()),
}
"""What is told, the question, the answer, and the values; a number is any of four digits."""

BETWEEN = ("Count to 3.", "Count to 5.", "Who are you?", "Thank you!", "Repeat after me: green tea", "Say lantern")

SECRET = "Think of a secret code word. Keep it in your reasoning and do not tell me yet."
SECRET_QUESTION = "What was the code word?"

_SECRET_WORD = re.compile(r"word is (\S+)\.")


@dataclass(frozen=True)
class Turn:
    """One question, and what is known of its answer."""

    text: str
    answer: str | None = None
    """The whole answer; None if only the model knows it and has not been asked alone yet."""
    seed: int | None = None
    """Sampled at temperature 1 with this seed; greedy without."""
    asks_secret: bool = False
    """The answer has the word that the model's reasoning had at the beginning."""


@dataclass
class Script:
    """A conversation; once it was held alone, `turns` have every answer."""

    turns: list[Turn]
    secret: bool
    """Needs a session that keeps reasoning."""
    word: str = ""
    answers: list[str] = field(default_factory=list)


def make_scripts(count: int, seed: int) -> list[Script]:
    """`count` different conversations, the same at each call."""
    draw = random.Random(seed)
    return [_secret(draw) if number % 4 == 0 else _facts(draw) for number in range(count)]


def _facts(draw: random.Random) -> Script:
    kinds = draw.sample(sorted(FACTS), draw.randint(1, 2))
    values = {kind: draw.choice(FACTS[kind][3] or [str(draw.randint(1000, 9999))]) for kind in kinds}
    told = [Turn(FACTS[kind][0].format(values[kind])) for kind in kinds]
    asked = [Turn(FACTS[kind][1], FACTS[kind][2].format(values[kind])) for kind in kinds]
    draw.shuffle(asked)
    return Script([*told, *_between(draw), *asked], secret=False)


def _secret(draw: random.Random) -> Script:
    asked = Turn(SECRET_QUESTION, asks_secret=True)
    return Script([Turn(SECRET, seed=draw.randrange(2**31)), *_between(draw), asked], secret=True)


def _between(draw: random.Random) -> list[Turn]:
    return [Turn(text) for text in draw.sample(BETWEEN, draw.randint(1, 3))]


def secret_word(reasoning: str | None) -> str | None:
    """The word that the model keeps in its reasoning."""
    found = _SECRET_WORD.search(reasoning or "")
    return None if found is None else found[1]


def is_right(script: Script, number: int, content: str) -> bool:
    """Whether an answer that was given to nobody else shows the skill: what was told is told again."""
    turn = script.turns[number]
    if turn.asks_secret:
        return bool(script.word) and content == f"The code word was {script.word}."
    return turn.answer is None or content == turn.answer
