"""What is said: sentences from patterns, numbers, and strings of words without sense.

The strings make the model listen: in sentences alone, much of a word can be guessed from its neighbours.
"""

import random

from tools.training.speech import lexicon as lex
from tools.training.speech.lexicon import Split, plural

LIMIT = 14
"""Words in the longest sentence."""


def number(rng: random.Random) -> str:
    """A number in words, small ones more often."""
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(lex.DIGITS[1:])
    if kind < 0.55:
        return rng.choice(lex.TEENS)
    if kind < 0.65:
        return rng.choice(lex.TENS)
    if kind < 0.85:
        return f"{rng.choice(lex.TENS)} {rng.choice(lex.DIGITS)}"
    return f"{rng.choice(lex.DIGITS)} {rng.choice(lex.LARGE)}"


def _quality(rng: random.Random) -> str:
    return rng.choice(rng.choice((lex.QUALITIES, lex.COLOURS)))


def _with_article(rng: random.Random, noun: str) -> str:
    described = f"{_quality(rng)} {noun}" if rng.random() < 0.5 else noun
    article = rng.choice(("the", "the", "a", "my", "your", "this", "that"))
    if article == "a" and described[0] in "aeiou":
        article = "an"
    return f"{article} {described}"


def _object(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.25:
        noun = plural(rng.choice(lex.COUNTED))
        described = f"{_quality(rng)} {noun}" if rng.random() < 0.4 else noun
        return f"{number(rng)} {described}"
    if kind < 0.35:
        return f"the {rng.choice(lex.FOODS)} and the {rng.choice(lex.FOODS)}"
    return _with_article(rng, rng.choice(lex.THINGS if rng.random() < 0.6 else lex.FOODS + lex.ANIMALS))


def _person(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(lex.NAMES)
    if kind < 0.7:
        return rng.choice(("we", "they", "he", "she", "I", "you"))
    if kind < 0.8:
        return f"{rng.choice(lex.NAMES)} and {rng.choice(lex.NAMES)}"
    return f"{rng.choice(('the', 'my', 'your', 'every'))} {rng.choice(lex.PERSONS)}"


def _where(rng: random.Random) -> str:
    if rng.random() < 0.4:
        return f"in {rng.choice(lex.PLACES)}"
    return f"{rng.choice(('in', 'near', 'behind', 'at'))} the {rng.choice(lex.SITES)}"


def _when(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.25:
        return f"on {rng.choice(lex.DAYS)}"
    if kind < 0.45:
        return f"in {rng.choice(lex.MONTHS)}"
    if kind < 0.6:
        return rng.choice(lex.MOMENTS)
    if kind < 0.75:
        return f"in the {rng.choice(lex.DAYTIMES)}"
    if kind < 0.9:
        minutes = rng.choice(("", " fifteen", " thirty", " forty five"))
        return f"at {rng.choice(lex.DIGITS + lex.TEENS[:3])}{minutes}"
    return f"every {rng.choice(lex.SPANS + lex.DAYTIMES + lex.DAYS)}"


def _goal(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.5:
        return f"to {rng.choice(lex.PLACES)}"
    if kind < 0.7:
        return f"from {rng.choice(lex.PLACES)} to {rng.choice(lex.PLACES)}"
    return f"to the {rng.choice(lex.SITES)}"


def _series(rng: random.Random, words: tuple[str, ...]) -> str:
    chosen = rng.sample(words, rng.randint(3, 4))
    return f"{', '.join(chosen[:-1])} and {chosen[-1]}"


def _deed(rng: random.Random) -> str:
    return f"{_person(rng)} {rng.choice(lex.PAST)} {_object(rng)} {rng.choice((_where, _when))(rng)}"


def _journey(rng: random.Random) -> str:
    return f"{_person(rng)} {rng.choice(lex.MOTIONS)} {_goal(rng)} {_when(rng)}"


def _state(rng: random.Random) -> str:
    return f"{_person(rng)} {rng.choice(lex.STATES)} {_where(rng)} {_when(rng)}"


def _description(rng: random.Random) -> str:
    noun = rng.choice(lex.THINGS + lex.ANIMALS + lex.SITES)
    return f"the {noun} {rng.choice(('is', 'was', 'is not', 'is very', 'was very'))} {_quality(rng)}"


def _place(rng: random.Random) -> str:
    noun = rng.choice(lex.THINGS + lex.ANIMALS)
    where = rng.choice(("under", "on", "behind", "near"))
    return f"the {_quality(rng)} {noun} is {where} the {rng.choice(lex.THINGS)}"


def _property(rng: random.Random) -> str:
    return f"{rng.choice(lex.NAMES)} has {number(rng)} {plural(rng.choice(lex.COUNTED))} and {_object(rng)}"


def _amount(rng: random.Random) -> str:
    return f"there are {number(rng)} {plural(rng.choice(lex.COUNTED))} {_where(rng)}"


def _memory(rng: random.Random) -> str:
    kinds = (lex.COLOURS, lex.DAYS, lex.MONTHS, lex.NAMES, lex.FOODS, lex.DIGITS, lex.PLACES)
    return f"{rng.choice(('we can', 'they must', 'I will', 'you can'))} remember {_series(rng, rng.choice(kinds))}"


def _weather(rng: random.Random) -> str:
    when = rng.choice((*lex.DAYS, "today", "tomorrow", "yesterday"))
    return f"{when} {rng.choice(('is', 'was', 'will not'))} {rng.choice(lex.WEATHER)} {_where(rng)}"


def _plan(rng: random.Random) -> str:
    return f"{_person(rng)} will {rng.choice(lex.ORDERS)} {_object(rng)} for {rng.choice(lex.NAMES)} {_when(rng)}"


_STATEMENTS = (
    _deed, _deed, _deed, _journey, _state, _description, _place, _property, _amount, _memory, _weather, _plan,
)  # fmt: skip


def _statement(rng: random.Random) -> str:
    return rng.choice(_STATEMENTS)(rng)


def _order(rng: random.Random) -> str:
    please = "please " if rng.random() < 0.5 else ""
    if rng.random() < 0.4:
        return f"{please}{rng.choice(('give', 'show', 'bring', 'send'))} {_object(rng)} to {rng.choice(lex.NAMES)}"
    return f"{please}{rng.choice(lex.ORDERS)} {_object(rng)} {_when(rng)}"


def _question(rng: random.Random) -> str:
    kind = rng.randrange(5)
    if kind == 0:
        return f"where is {_with_article(rng, rng.choice(lex.THINGS + lex.ANIMALS))}?"
    if kind == 1:
        return f"how many {plural(rng.choice(lex.COUNTED))} are {_where(rng)}?"
    if kind == 2:
        return f"who {rng.choice(lex.PAST)} {_object(rng)} {_when(rng)}?"
    if kind == 3:
        return f"when will {_person(rng)} {rng.choice(lex.ORDERS)} {_object(rng)}?"
    return f"what is {rng.choice(('under', 'on', 'behind', 'near'))} {_with_article(rng, rng.choice(lex.THINGS))}?"


def _counting(rng: random.Random) -> str:
    digits = (*lex.DIGITS, "zero")
    if rng.random() < 0.5:
        return " ".join(rng.choice(digits) for _ in range(rng.randint(3, 8)))
    return f"{rng.choice(lex.MONTHS)} {number(rng)}, {rng.choice(lex.TEENS + lex.TENS)} {rng.choice(lex.TENS)}"


def _greeting(rng: random.Random) -> str:
    return rng.choice(
        (
            f"hello {rng.choice(lex.NAMES)}, {_statement(rng)}",
            f"thank you, {rng.choice(lex.NAMES)}",
            f"goodbye {rng.choice(lex.NAMES)}",
            f"yes, {_statement(rng)}",
            f"hello, {_question(rng)}",
        )
    )


# A string gives no neighbour to tell these from numbers.
_LISTED = tuple(word for word in lex.vocabulary() if word not in ("to", "for", "a", "an"))


def _string(rng: random.Random) -> str:
    """Words without sense; some strings come back to two or three words, or to one, again and again.

    Who says "one seven one seven" says it so often and no more: a decoder that has rarely heard it would go on with it.
    """
    words = _LISTED
    if rng.random() < 0.3:
        stock = (*lex.DIGITS, "zero") if rng.random() < 0.6 else _LISTED
        words = tuple(rng.sample(stock, rng.randint(1, 3)))
    return " ".join(rng.choice(words) for _ in range(rng.randint(1, LIMIT if len(words) < 4 else 9)))


def _finish(text: str) -> str:
    text = text[0].upper() + text[1:]
    return text if text.endswith("?") else f"{text}."


def sentence(rng: random.Random, split: Split, strings: float = 0.0) -> str:
    """One sentence of a split, with its capital and its stop; a share `strings` makes no sense."""
    while True:
        kind = rng.random()
        if rng.random() < strings:
            text = _string(rng)
        elif kind < 0.64:
            text = _statement(rng)
        elif kind < 0.76:
            text = _order(rng)
        elif kind < 0.88:
            text = _question(rng)
        elif kind < 0.95:
            text = _counting(rng)
        else:
            text = _greeting(rng)
        text = _finish(text)
        if len(text.split()) <= LIMIT and lex.is_held_out(text) == (split == "held_out"):
            return text
