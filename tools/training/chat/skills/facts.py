"""Facts a user tells, corrects and asks for again."""

from tools.training.chat.dialogue import World
from tools.training.chat.phrasing import Phrases
from tools.training.chat.skills.kinds import FIXED, NAME, OWNED, THINGS, Fact, owned, sentence

_CORRECT = "[Actually, |No, |Sorry, |Correction: |I was wrong, |I made a mistake, |Update: |Wait, ]"
_NOW = Phrases(("{a} is [now |]{v}[| now| instead].",))


def _say(world: World, fact: Fact, phrases: Phrases, value: str = "") -> str:
    return world.say(phrases, v=value, a=fact.key, A=sentence(fact.key))


def spoken(world: World, fact: Fact) -> str:
    """How the user would tell or ask this."""
    return _say(world, fact, world.rng.choice((fact.tell, fact.ask)), world.draw(fact.category))


def value_of(world: World, fact: Fact) -> str:
    """A value for a fact, now and then of several words: New York, dark blue green."""
    value = world.draw(fact.category)
    if world.rng.random() < 0.16 and not any(c.isdigit() for c in value):
        more = world.draw(fact.category)
        value += " " + (more.capitalize() if value[0].isupper() else more.lower())
        if world.rng.random() < 0.35:
            value += " " + world.rng.choice((world.draw(fact.category), world.lexicon.words(world.rng, 1, 2)))
    return value


def _sibling(world: World) -> Fact | None:
    """A fact easily taken for one already told: the cat's name beside the dog's."""
    told = [fact.key.split(" ", 1) for fact in world.facts if fact.key.split(" ", 1)[1] in OWNED]
    if not told:
        return None
    owner, attribute = world.rng.choice(told)
    first, last = attribute.split()[0], attribute.split()[-1]
    near = [other for other in OWNED if other != attribute and (first in other.split() or last in other.split())]
    if not near:
        return None
    other = world.rng.choice(near)
    return owned(owner, other, OWNED[other])


def any_fact(world: World) -> Fact:
    """A kind of fact: names and favourites often, made-up kinds now and then; none that is called like a secret."""
    while True:
        fact = _any_fact(world)
        if not any(kind in fact.key for kind in world.secrets):
            return fact


def _any_fact(world: World) -> Fact:
    rng = world.rng
    if rng.random() < 0.35 and (near := _sibling(world)):
        return near
    kind = rng.random()
    if kind < 0.40:
        return NAME if kind < 0.24 else rng.choice(FIXED[1:])
    if kind < 0.70:
        attribute = rng.choice(list(OWNED))
        return owned("my", attribute, OWNED[attribute])
    if kind < 0.86:
        thing = rng.choice(list(THINGS))
        return owned("the", thing, THINGS[thing])
    if kind < 0.92:
        attribute = rng.choice(list(OWNED))
        return owned(f"{world.draw('name')}'s", attribute, OWNED[attribute])
    noun = world.draw("word").lower()
    attribute = rng.choice((f"{noun}", f"{noun} number", f"favourite {noun}", f"{noun}'s name", f"{noun} code"))
    return owned("my", attribute, "number" if "number" in attribute else "codeword")


def tell(world: World) -> None:
    """The user tells one fact, new or again with another value."""
    fact = any_fact(world)
    value = value_of(world, fact)
    if fact.key in {known.key for known in world.facts} and world.rng.random() < 0.6:
        correct(world)
        return
    state(world, fact, value)


def state(world: World, fact: Fact, value: str) -> None:
    """The user tells this fact."""
    known = next((old for old in world.facts if old.key == fact.key), None)
    if known is not None:
        del world.facts[known]
        world.corrected.add(fact)
    world.user(_say(world, fact, fact.tell, value))
    world.facts[fact] = value
    world.reply(fact.noted.format(v=value))


def tell_two(world: World) -> None:
    """Two facts in one message; the reply notes both."""
    first, second = any_fact(world), any_fact(world)
    keys = {fact.key for fact in world.facts}
    if first.key == second.key or first.key in keys or second.key in keys:
        return tell(world)
    one, two = value_of(world, first), value_of(world, second)
    joint = " and " if world.rng.random() < 0.8 else ". "
    left = _say(world, first, first.tell, one).rstrip(".!?")
    right = _say(world, second, second.tell, two)
    world.user(left + joint + right)
    for fact, value in ((first, one), (second, two)):
        world.facts[fact] = value
    world.reply(f"{first.noted.format(v=one)} {second.noted.format(v=two)}")
    return None


def tell_and_ask(world: World) -> None:
    """A fact and the question for it in one message."""
    fact = any_fact(world)
    if fact.key in {known.key for known in world.facts}:
        return ask(world)
    value = value_of(world, fact)
    told = _say(world, fact, fact.tell, value).rstrip(".!")
    world.user(f"{told}. {_say(world, fact, fact.ask)}")
    world.facts[fact] = value
    world.reply(fact.answer.format(v=value))
    return None


def tell_alike(world: World) -> None:
    """Two facts that differ in a word, one after the other, and a question for one of them."""
    first = any_fact(world)
    while first.key.split(" ", 1)[1] not in OWNED:
        first = any_fact(world)
    keys = {fact.key for fact in world.facts}
    owner, attribute = first.key.split(" ", 1)
    ends = [other for other in OWNED if other != attribute and other.split()[-1] == attribute.split()[-1]]
    if world.rng.random() < 0.75 and ends:
        other = world.rng.choice(ends)
        second = owned(owner, other, OWNED[other])
    else:
        someone = world.rng.choice(("my", "the", f"{world.draw('name')}'s", f"{world.draw('name')}'s"))
        second = owned(someone, attribute, OWNED[attribute])
    if keys & {first.key, second.key} or first.key == second.key:
        return tell(world)
    for fact in (first, second):
        state(world, fact, value_of(world, fact))
    if world.rng.random() < 0.7:
        asked = [next(f for f in world.facts if f.key == fact.key) for fact in (first, second)]
        for fact in world.rng.sample(asked, world.rng.choice((1, 1, 2))):
            ask(world, fact)
    return None


def correct(world: World) -> None:
    """The user changes a fact told before; the latest value counts."""
    if not world.facts:
        return tell(world)
    fact = world.rng.choice(list(world.facts))
    value = value_of(world, fact)
    told = _say(world, fact, fact.tell, value)
    if not told.startswith((value, fact.key)):
        told = told[:1].lower() + told[1:]
    if fact.key.startswith(("my ", "the ")) and world.rng.random() < 0.6:
        told = world.say(_NOW, v=value, a=fact.key)
    opening = world.say(Phrases((_CORRECT,))) + " "
    world.user((opening if world.rng.random() < 0.8 else "") + told)
    world.facts[fact] = value
    world.corrected.add(fact)
    world.reply(fact.noted.format(v=value))
    return None


def ask(world: World, fact: Fact | None = None) -> None:
    """The user asks for a fact told before; early facts as often as late ones."""
    if not world.facts:
        return ask_unknown(world) if world.rng.random() < 0.2 else tell(world)
    changed = [known for known in world.facts if known in world.corrected]
    # Where a value was replaced, the old one still stands in the text: that takes more practice.
    pool = changed if changed and world.rng.random() < 0.6 else list(world.facts)
    fact = fact or world.rng.choice(pool)
    world.user(_say(world, fact, fact.ask))
    world.reply(fact.answer.format(v=world.facts[fact]))
    return None


def ask_unknown(world: World) -> None:
    """The user asks for something never told."""
    fact = any_fact(world)
    asked = fact.key.split(" ", 1)[1]
    # "my code word" and "the code word" are too close to be told apart by a stranger.
    known = any(asked == old.key.split(" ", 1)[1] for old in world.facts)
    if known or any(kind in fact.key or asked in kind for kind in world.secrets):
        return ask(world) if world.facts else tell(world)
    world.user(_say(world, fact, fact.ask))
    world.reply(fact.unknown)
    return None
