"""The words dialogues are filled with, and the split that keeps some of them for the examination.

A value (a name, a code word, a city) is held out by a hash of its text, so that the split needs no
list and is the same in every process. Half of the values are real words, half are made of random
syllables or digits: a model that only knew the real ones could not copy what a user types.
"""

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "held_out"]


def _words(text: str) -> list[str]:
    return text.split()


NAMES = _words(
    """
    Ada Alan Alice Amir Ana Anna Aria Ben Bella Bob Boris Carla Carlos Cara Chen Clara Daisy Dan David Dora Elena
    Ella Emil Emma Eric Erik Eva Felix Finn Fatima Frank Fred Gina Grace Greta Hana Hans Harry Hugo Ida Igor Ines
    Iris Ivan Jack Jakob James Jane Jasmin Joe John Jonas Josef Julia Kai Karl Kate Kira Lara Laura Leo Liam Lily
    Linda Linus Lisa Liv Lucas Lucy Luis Lena Maria Mark Marta Max Maya Mia Mike Mila Mina Mohammed Nadia Nina Noah
    Nora Olga Oliver Olivia Omar Oscar Otto Paul Paula Pedro Peter Pia Priya Rita Robert Rosa Ruth Sam Sara Sarah
    Simon Sofia Sophie Stefan Susan Tara Theo Tim Tina Tom Toni Uma Vera Victor Wei Will Yara Yuki Yusuf Zara Zoe
    """
)
COLOURS = _words(
    """
    red blue green yellow orange purple pink brown black white grey gray teal violet indigo gold silver cyan magenta
    turquoise beige maroon navy olive crimson scarlet lilac amber ivory mint
    """
)
CITIES = _words(
    """
    Paris London Berlin Rome Madrid Vienna Prague Oslo Helsinki Lisbon Dublin Athens Warsaw Budapest Zurich Geneva
    Milan Naples Munich Hamburg Lyon Porto Seville Boston Chicago Denver Dallas Austin Seattle Toronto Montreal Lima
    Bogota Santiago Cairo Lagos Nairobi Accra Tunis Mumbai Delhi Tokyo Kyoto Osaka Seoul Beijing Shanghai Bangkok
    Hanoi Jakarta Manila Sydney Perth Auckland Havana Quito Dubai Istanbul Ankara Baku Tehran Kyiv Riga Tallinn
    Vilnius Sofia Belgrade Zagreb Bern Basel Antwerp Ghent Bergen Malmo Houston Miami Phoenix Portland
    """
)
ANIMALS = _words(
    """
    dog cat horse cow sheep goat pig duck goose hen rabbit mouse rat fox wolf bear lion tiger elephant giraffe zebra
    monkey panda koala kangaroo dolphin whale shark seal otter beaver owl eagle hawk parrot raven swan frog toad
    snake turtle lizard spider ant bee butterfly crab octopus penguin camel deer moose squirrel hedgehog badger
    dragon unicorn
    """
)
FOODS = _words(
    """
    pizza pasta rice bread cheese soup salad sushi curry tacos noodles apples pears bananas cherries grapes lemons
    oranges plums melons carrots potatoes tomatoes onions beans chocolate honey cake cookies pancakes waffles coffee
    tea milk juice water yoghurt toast eggs butter pie ice mango peach
    """
)
JOBS = _words(
    """
    baker teacher nurse doctor pilot farmer painter singer writer driver cook gardener plumber carpenter engineer
    lawyer dentist librarian waiter sailor tailor miner judge actor dancer barber chemist programmer designer welder
    """
)
NOUNS = _words(
    """
    lantern river mountain garden window candle bridge forest ocean pebble feather anchor compass hammer basket
    mirror ladder pillow blanket button bottle kettle spoon table chair lamp door key clock watch ring crown sword
    shield castle tower tent boat ship train plane wheel rocket robot engine violin piano drum guitar flute trumpet
    book letter pencil paper map flag kite ball puzzle island desert valley canyon meadow cloud storm thunder rain
    snow wind sun moon star comet planet galaxy stone crystal diamond ruby emerald pearl silver copper iron marble
    velvet silk cotton wool leather basil ginger pepper cinnamon vanilla saffron walnut almond acorn maple willow
    cedar bamboo cactus tulip rose daisy orchid sunflower clover harbor lighthouse market museum library school
    kitchen attic cellar tunnel volcano glacier waterfall rainbow sunrise sunset winter summer autumn spring morning
    evening midnight shadow echo whisper signal mystery journey treasure secret magic wonder courage freedom harmony
    justice wisdom victory balance umbrella saddle wagon barrel needle thread ribbon whistle banner beacon cabin
    cherry falcon goblin hermit jungle knight ladle magnet nectar oyster parcel quartz rabbit sailor tablet tulip
    velcro wizard yonder zephyr witch pirate princess king queen prince ghost giant fairy mermaid monster clown
    ninja astronaut detective inventor farmer baker tailor snowman scarecrow unicorn teapot acrobat bicycle balloon
    """
)
MONTHS = _words(
    """
    January February March April May June July August September October November December
    """
)
LANGUAGES = _words(
    """
    French German Spanish Italian Dutch Polish Czech Greek Turkish Arabic Hindi Japanese Korean Chinese Danish
    Swedish Finnish Latin Welsh Irish
    """
)
CURRENCIES = _words(
    """
    USD EUR GBP JPY CHF SEK NOK CAD AUD INR
    """
)
COMMON = _words(
    """
    the a an is are was it this that we you they he she here there now then today tomorrow always never very small
    big old new good bad happy sad quick slow warm cold dark bright red blue green open closed see run walk jump
    sing dance eat drink read write think play work sleep love like want need find keep give and or but with without
    under over near far from into on in at by for of to my your our one two three four hello world test cat dog
    house tree bird fish water fire earth sky road time day night people friend thing yes no maybe please thanks
    good morning welcome nothing everything again soon later
    """
)

_REAL = (NAMES, COLOURS, CITIES, ANIMALS, FOODS, JOBS, NOUNS, NOUNS, NOUNS)
_ONSETS = _words(
    """
    b c d f g h j k l m n p r s t v w z br cl cr dr fl gr kl pl pr sh sk sl sn st th tr ch
    """
)
_NUCLEI = _words(
    """
    a e i o u a e i o u ai ea ee ia io oo ou
    """
)
_CODAS = ["", "", "", "", "n", "l", "r", "s", "t", "m", "x", "k", "nd", "rt", "st"]

_ACCENTED = str.maketrans("aeiouscnzbdfgrtl", "äéíöüšçñżëáèøåôł")


def is_held_out(value: str) -> bool:
    """Whether a value is kept for the examination. One in ten is."""
    return zlib.crc32(value.lower().encode()) % 10 == 3


def nonsense(rng: random.Random) -> str:
    """A pronounceable word that means nothing, 3 to about 12 letters."""
    count = rng.choice((1, 2, 2, 2, 3, 3))
    parts = [rng.choice(_ONSETS) + rng.choice(_NUCLEI) + rng.choice(_CODAS) for _ in range(count)]
    word = "".join(parts)
    if rng.random() < 0.06:
        letter = rng.choice(word)
        word = word.replace(letter, letter.translate(_ACCENTED))
    return word if len(word) > 2 else word + rng.choice("nrstl")


def digits(rng: random.Random, low: int = 1, high: int = 5) -> str:
    """A number of `low` to `high` digits without a leading zero."""
    count = rng.randint(low, high)
    return str(rng.randint(10 ** (count - 1), 10**count - 1))


def code(rng: random.Random) -> str:
    """An identifier such as K7-42 or ord_913."""
    shape = rng.randrange(5)
    letters = "".join(rng.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(rng.randint(1, 3)))
    if shape == 0:
        return f"{letters}{digits(rng, 1, 4)}"
    if shape == 1:
        return f"{letters}-{digits(rng, 2, 4)}"
    if shape == 2:
        return f"{nonsense(rng)}-{digits(rng, 1, 3)}"
    if shape == 3:
        return f"{nonsense(rng)}{digits(rng, 1, 3)}"
    return f"{letters}{digits(rng, 1, 1)}-{letters}"


def _real_or_made(words: list[str], made: Callable[[random.Random], str]) -> Callable[[random.Random], str]:
    def draw(rng: random.Random) -> str:
        return rng.choice(words) if rng.random() < 0.5 else made(rng)

    return draw


def compound(rng: random.Random) -> str:
    """A made-up word around a real one: lanternik, dragonriver.

    The real part may be held out as a value of its own. Were its letters never met, the pieces the tokenizer has
    for them would have no meaning, and no copy of it could succeed.
    """
    real = rng.choice(rng.choice(_REAL)).lower()
    other = nonsense(rng) if rng.random() < 0.7 else rng.choice(NOUNS)
    return real + other if rng.random() < 0.7 else other + real


def _made(rng: random.Random) -> str:
    return nonsense(rng) if rng.random() < 0.75 else compound(rng)


def _name(rng: random.Random) -> str:
    return _made(rng).capitalize()


def _word(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(NOUNS)
    if kind < 0.85:
        return nonsense(rng) if kind < 0.65 else compound(rng)
    return nonsense(rng).capitalize() if kind < 0.95 else nonsense(rng).upper()


def _codeword(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.65:
        return _word(rng)
    return digits(rng, 2, 6) if kind < 0.8 else code(rng)


def _number(rng: random.Random) -> str:
    return digits(rng, 1, 5)


_DRAWS: dict[str, Callable[[random.Random], str]] = {
    "name": _real_or_made(NAMES, _name),
    "colour": _real_or_made(COLOURS, _made),
    "city": _real_or_made(CITIES, _name),
    "animal": _real_or_made(ANIMALS, _made),
    "food": _real_or_made(FOODS, _made),
    "job": _real_or_made(JOBS, _made),
    "month": _real_or_made(MONTHS, _name),
    "language": _real_or_made(LANGUAGES, _name),
    "currency": lambda rng: rng.choice(CURRENCIES),
    "word": _word,
    "codeword": _codeword,
    "number": _number,
    "code": code,
}


@dataclass(frozen=True)
class Lexicon:
    """Draws values of one split; both splits have the same categories."""

    split: Split

    def draw(self, rng: random.Random, category: str) -> str:
        """A value of a category. Currencies and numbers under 100 are in both splits."""
        draw = _DRAWS[category]
        while True:
            value = draw(rng)
            closed = category == "currency" or (value.isdigit() and len(value) < 3)
            if closed or is_held_out(value) == (self.split == "held_out"):
                if self.split == "held_out" and closed and category != "currency":
                    continue
                return value

    def words(self, rng: random.Random, low: int, high: int) -> str:
        """A phrase: mostly common words, the rest drawn from the split."""
        count = rng.randint(low, high)
        parts = [rng.choice(COMMON) if rng.random() < 0.5 else self.draw(rng, "word") for _ in range(count)]
        if self.split == "held_out" and not any(is_held_out(part) for part in parts):
            parts[rng.randrange(count)] = self.draw(rng, "word")
        return " ".join(parts)
