"""The words the speech model knows, by what they are, and the split that keeps some sentences from training.

Words that sound alike are avoided, but for `to`/`two` and `for`/`four`, which their neighbours tell apart.
"""

import zlib
from typing import Literal

Split = Literal["train", "held_out"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


DIGITS = _words("one two three four five six seven eight nine")
TEENS = _words("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen")
TENS = _words("twenty thirty forty fifty sixty seventy eighty ninety")
LARGE = _words("hundred thousand million")
ORDINALS = _words("first second third last next")
DAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _words("January February March April May June July August September October November December")
COLOURS = _words("red blue green yellow orange purple pink brown black white grey golden silver")
NAMES = _words(
    """
    Anna Peter Maria Thomas Julia Oliver Emma David Sophie Daniel Laura Martin Nora Simon Clara Victor Helen Robert
    Alice George Linda Oscar Sarah Henry
    """
)
PLACES = _words(
    """
    London Paris Berlin Madrid Vienna Dublin Lisbon Oslo Helsinki Athens Warsaw Boston Chicago Toronto Sydney Tokyo
    Cairo Mumbai Africa Europe Canada Japan Brazil India
    """
)
PERSONS = _words(
    "mother father sister brother teacher doctor farmer driver friend neighbour king queen child woman baker"
)
ANIMALS = _words("dog cat horse cow bird fish rabbit mouse tiger elephant monkey sheep goose")
THINGS = _words(
    """
    book letter table chair window door key lamp clock phone camera computer bottle cup plate knife spoon basket box
    bag coat hat shoe shirt jacket umbrella ring guitar piano picture ticket map pencil paper candle ball boat bicycle
    car train bus plane
    """
)
FOODS = _words(
    "apple banana lemon bread butter cheese milk water coffee tea sugar soup rice salad chicken egg cake potato tomato"
)
SITES = _words(
    """
    garden kitchen house school station hotel hospital museum office market river mountain forest beach bridge street
    village city library church airport restaurant theatre park island
    """
)
QUALITIES = _words(
    """
    small big old new young long short heavy light warm cold clean empty full happy quiet beautiful strong cheap
    wonderful broken
    """
)
PLURALS = {
    "woman": "women",
    "child": "children",
    "fish": "fish",
    "mouse": "mice",
    "sheep": "sheep",
    "goose": "geese",
    "knife": "knives",
    "box": "boxes",
    "bus": "buses",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "city": "cities",
    "library": "libraries",
    "church": "churches",
    "beach": "beaches",
}
PAST = _words(
    "found bought sold carried opened closed painted needed wanted forgot visited remembered cleaned brought lost took"
)
ORDERS = _words("open close take bring carry clean find paint show give send remember")
MOTIONS = _words("walked travelled drove went returned moved")
STATES = _words("slept waited worked played danced laughed sang listened")
DAYTIMES = _words("morning afternoon evening")
MOMENTS = _words("today tomorrow yesterday tonight always never often again")
SPANS = _words("minute hour day week month year")
WEATHER = _words("sunny rainy windy cloudy snow thunder")
SMALL = _words(
    """
    the a an my your this that is are was has we they he she you it and or but with from to for in on at of under behind
    near very not every please hello thank goodbye yes where when who how many what there will can must
    """
)


def plural(noun: str) -> str:
    """Two or more of a noun."""
    return PLURALS.get(noun, noun + "s")


COUNTED = THINGS + ANIMALS + PERSONS
"""Nouns that are used with numbers, in the plural."""


def vocabulary() -> list[str]:
    """Every word that can occur, proper names with their capital, others in lower case; sorted."""
    groups = (
        DIGITS, TEENS, TENS, LARGE, ORDINALS, DAYS, MONTHS, COLOURS, NAMES, PLACES, PERSONS, ANIMALS, THINGS, FOODS,
        SITES, QUALITIES, PAST, ORDERS, MOTIONS, STATES, DAYTIMES, MOMENTS, SPANS, WEATHER, SMALL, ("I", "zero"),
    )  # fmt: skip
    words = {word for group in groups for word in group}
    words |= {plural(word) for word in COUNTED} | {plural(word) for word in SPANS}
    return sorted(words)


def is_held_out(sentence: str) -> bool:
    """Whether a sentence is kept for the examination: one in ten, by a hash of its letters."""
    key = " ".join("".join(c for c in sentence.lower() if c.isalpha() or c == " ").split())
    return zlib.crc32(key.encode()) % 10 == 0
