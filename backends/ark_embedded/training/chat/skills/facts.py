"""Facts a user tells, corrects and asks for again."""

# ruff: noqa: E501 - a phrase is one line, however long

from dataclasses import dataclass

from ark_embedded.training.chat.dialogue import World
from ark_embedded.training.chat.phrasing import Phrases

_BY_THE_WAY = "[|||By the way, |Keep this secret: |Here is a secret: |One more thing, |You see, |Oh, and |Also, |Hi, |Hello, |Hey, |Well, |Please note: |So, ]"
_REMEMBER = (
    "[||[please |]remember [that |]|[please |]remember[:| this:] |[please |]note that |"
    "[please |]keep in mind that |[I want you to |you should |]know that |don't forget that |"
    "for later, |for your information, |I tell you that |let me tell you that |just so you know, ]"
)
_ASK = "[|||||Hi, |Hello, |Hey, |By the way, |Sorry, |Please tell me: |Tell me, |Now, |So, |And |OK, |One question: |Quick question: ]"
_CAN_YOU = "[Can you|Could you|Would you|Will you]"

_CORRECT = "[Actually, |No, |Sorry, |Correction: |I was wrong, |I made a mistake, |Update: |Wait, ]"

_ASK_MORE = (
    "I [do not|don't] [remember|know|recall] {a}. [Do you|Can you tell me|Please tell me|What is it again]?",
    "[Could you|Can you] [look up|find|name|mention] {a}[| for me]?",
    "[Name|Give|Repeat|Recall|Mention|Write] {a}[|, please| for me| now].",
    "[Have I told you|Did I tell you|Did I mention] {a}?",
    "[I want to know|I would like to know|I need to know|I am asking for|I need|I lost|I forgot] {a}.",
    "[You know|I told you|You should know|You must know] {a}[, right|]. [What is it|Tell me|So what is it][?|.]",
    "[Test|Check|Quiz|Question]: [what is|what's|do you know] {a}?",
    "[Do you have|Have you stored|Have you noted|Have you kept] {a}?",
    "[Are you able to tell me|Is it possible to tell me|Would you know|Do you happen to know] {a}?",
)
_ASK_CLAUSE = (
    "[I want to know|I would like to know|Would you know|Have I told you|Did I tell you|Did I mention] {a}[?|.]",
    "[Can you recall|Are you able to tell me|Could you say|Do you happen to know|I do not remember] {a}[?|.]",
)
_NOW = Phrases(("{a} is [now |]{v}[| now| instead].",))


@dataclass(frozen=True)
class Fact:
    """A kind of fact: how it is told and asked, and the four sentences the model answers with."""

    key: str
    category: str
    tell: Phrases
    ask: Phrases
    answer: str
    noted: str
    unknown: str


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def owned(owner: str, attribute: str, category: str) -> Fact:
    """A fact of the form "my dog's name is Rex", or of somebody else: "Ada's dog's name"."""
    mine = owner == "my"
    thing = f"{owner} {attribute}"
    yours = f"your {attribute}" if mine else thing
    return Fact(
        key=thing,
        category=category,
        tell=Phrases(
            (
                f"{_BY_THE_WAY}{{a}} is {{v}}.",
                f"{_REMEMBER}{{a}} is {{v}}.",
                f"{_REMEMBER}{{a}} is {{v}}.",
                f"{_REMEMBER}{{a}} is {{v}}[|, please|, okay?| by the way].",
                "{v} is {a}.",
                "[I should mention|I must tell you|I'd like to add|It is important] that {a} is {v}.",
                "[Make a note|Take note|Write this down|Listen]: {a} is {v}.",
                "[Did you know that|You may know that|I just learned that] {a} is {v}[?|.]",
                "{a}: {v}",
                "{A} is {v}. [Please |][remember|keep|store|note] [it|this|that][|, please|!].",
                "[Remember|Please remember|Note|Keep in mind|Remember for me] this: {a} is {v}.",
                "[Please |][remember|keep|note|save] {a}: {v}.",
                *(() if mine else ("[Please |]remember {a} {v}.", "[Please |]remember {a} {v}.")),
                "[I have told everyone|You should know|I can tell you|It is true] that {a} is {v}.",
            ),
            (
                "[Would you please|I need you to] remember that {a} is {v}?",
                "[Here is something about me|One more thing]: {a} is {v}.",
                "[Store|Save|Write down] [this|the following]: {a} is {v}.",
            ),
        ),
        ask=Phrases(
            (
                f"{_ASK}[what is|what's|whats|what was] {{a}}[| again]?",
                f"{_ASK}[what is|what's] {{a}}?",
                "[Do you|Do you still|Can you] [remember|know|recall] {a}?",
                *_ASK_MORE,
                "[Please |]tell me {a}[| again| now| once more].",
                f"{_CAN_YOU} [tell me|remind me of|repeat|give me] {{a}}[|, please| again]?",
                "[Please |]remind me[: what is| of|: what was] {a}.",
                "[Do you know|Do you remember|Can you tell me|I forgot|Remind me] what {a} is[|?|.]",
                "{A}[|, please]?",
                "[What did I say|What did I tell you|Which one did I say] {a} [is|was]?",
            ),
            (
                "I [can't|cannot] remember {a}. [What is it?|What was it?|Can you help?]",
                "[Earlier I told you|I mentioned] {a}. What [is|was] it?",
                "[Say|State] {a} [please|now|once again].",
                "Let's see [if|whether] you [know|remember] {a}.",
            ),
        ),
        answer=f"{_sentence(yours)} is {{v}}.",
        noted=f"I will remember that {yours} is {{v}}.",
        unknown=f"You have not told me {yours}.",
    )


NAME = Fact(
    key="my name",
    category="name",
    tell=Phrases(
        (
            "[||Hi, |Hi! |Hello, |Hello! |Hey, |Good morning, |Good evening, ][my name is|my name's|I am|I'm] {v}.",
            "[||Hi, |Hi! |Hello, |Hello! |Hey, |Good morning, ]my name is {v}[|, nice to meet you|, by the way].",
            "[||Hi, |Hello, ][call me|you can call me|please call me|people call me|I am called|they call me] {v}.",
            f"{_REMEMBER}my name is {{v}}.",
            "[Hi|Hello|Hey], [this is|it's|it is] {v}[| speaking| here].",
            "[Hi|Hello|Hey], {v} here.",
            "[My parents named me|You are talking to|The name is|I have the name|Hello from|Your user is] {v}.",
            "[My name? It's|My name? It is|My name: |Name:] {v}",
            "[Let me introduce myself|I should introduce myself|Allow me to introduce myself]: [I am|I'm|my name is] {v}.",
        ),
        (
            "The name's {v}.",
            "[Nice to meet you|Pleased to meet you], [I am|I'm|my name is] {v}.",
            "[I go by|I go by the name of|Everybody calls me|My friends call me] {v}.",
        ),
    ),
    ask=Phrases(
        (
            f"{_ASK}[what is|what's|whats] my name[| again]?",
            f"{_ASK}[what is|what's] my name?",
            "[Do you|Do you still|Can you] [remember|know|recall] my name?",
            *_ASK_MORE,
            "[Who am I|Do you know who I am|Do you remember who I am|And who am I]?",
            "[Please |]tell me my name[| again| now].",
            f"{_CAN_YOU} [tell me|remind me of|repeat|say] my name[|, please| again]?",
            "[Do you know|Do you remember|Can you tell me|Tell me] what my name is[|?|.]",
            "[Please |][say|repeat] my name.",
            "What [am I called|do people call me|was my name]?",
            "My name[|, please]?",
        ),
        (
            "I [can't|cannot] remember my name. [What is it?|What was it?|Can you help?]",
            "[Let's see if you know|I wonder if you know] my name.",
            "[By what name|What] should you call me?",
            "[Say|State] my name [please|now].",
        ),
    ),
    answer="Your name is {v}.",
    noted="Nice to meet you, {v}.",
    unknown="You have not told me your name.",
)
CITY = Fact(
    key="where I live",
    category="city",
    tell=Phrases(
        (
            f"{_BY_THE_WAY}I live in {{v}}[| now].",
            f"{_REMEMBER}I live in {{v}}.",
            f"{_BY_THE_WAY}[my home is in|I am living in|I have a flat in|my home is] {{v}}.",
        ),
        ("[I moved to|I now live in] {v}.",),
    ),
    ask=Phrases(
        (
            f"{_ASK}where do I live[| again| now]?",
            "[Do you|Do you still|Can you] [remember|know|recall] where I live?",
            *_ASK_CLAUSE,
            "[Please |]tell me where I live.",
            "[In which city|In what city|In which town] do I live?",
            "[Which|What] [city|town|place] do I live in?",
        ),
        ("[Where did I say I live|Where is my home]?", "[I forgot|Remind me] where I live."),
    ),
    answer="You live in {v}.",
    noted="I will remember that you live in {v}.",
    unknown="You have not told me where you live.",
)
AGE = Fact(
    key="how old I am",
    category="number",
    tell=Phrases(
        (
            f"{_BY_THE_WAY}[I am|I'm] {{v}} years old.",
            f"{_REMEMBER}[I am|I'm] {{v}} years old.",
            f"{_BY_THE_WAY}I [turned|just turned] {{v}} years old.",
        ),
        ("[My age|At the moment my age] is {v} years.",),
    ),
    ask=Phrases(
        (
            f"{_ASK}how old am I[| again| now]?",
            "[Do you|Do you still|Can you] [remember|know|recall] how old I am?",
            *_ASK_CLAUSE,
            "[Please |]tell me how old I am.",
        ),
        ("[How many years old am I|How old did I say I am]?", "[I forgot|Remind me] how old I am."),
    ),
    answer="You are {v} years old.",
    noted="I will remember that you are {v} years old.",
    unknown="You have not told me how old you are.",
)
WORK = Fact(
    key="what I work as",
    category="job",
    tell=Phrases(
        (
            f"{_BY_THE_WAY}I work as a {{v}}.",
            f"{_REMEMBER}I work as a {{v}}.",
            f"{_BY_THE_WAY}I earn my [living|money] as a {{v}}.",
        ),
        ("I am employed as a {v}.",),
    ),
    ask=Phrases(
        (
            f"{_ASK}what do I work as?",
            f"{_ASK}what [do I do for a living|is my profession|is my job|is my work|do I do for work]?",
            "[Do you|Do you still|Can you] [remember|know|recall] [what I work as|my job|what my job is|my profession]?",
            "[Please |]tell me [what I work as|my job].",
            *_ASK_CLAUSE,
        ),
        ("[As what do I work|What did I say I work as]?", "[I forgot|Remind me] what I work as."),
    ),
    answer="You work as a {v}.",
    noted="I will remember that you work as a {v}.",
    unknown="You have not told me what you work as.",
)
LIKE = Fact(
    key="what I like",
    category="food",
    tell=Phrases(
        (
            f"{_BY_THE_WAY}I [really |]like {{v}}[| very much| a lot].",
            f"{_REMEMBER}I [really |]like {{v}}.",
            f"{_BY_THE_WAY}I [love|adore] {{v}}.",
        ),
        ("I am fond of {v}.", "I am a big fan of {v}."),
    ),
    ask=Phrases(
        (
            f"{_ASK}what do I like[| again]?",
            "[Do you|Do you still|Can you] [remember|know|recall] what I like?",
            *_ASK_CLAUSE,
            "[Please |]tell me what I like.",
            "What did I say I like?",
        ),
        ("[I forgot|Remind me] what I like.", "[What is it that I like|What do I love]?"),
    ),
    answer="You like {v}.",
    noted="I will remember that you like {v}.",
    unknown="You have not told me what you like.",
)

_OWNED: dict[str, str] = {
    "favourite colour": "colour", "favorite color": "colour", "favourite color": "colour",
    "favourite animal": "animal", "favorite animal": "animal", "favourite food": "food",
    "favorite food": "food", "favourite city": "city", "favorite city": "city",
    "favourite fruit": "food", "favourite number": "number", "favorite number": "number",
    "favourite word": "word", "favourite month": "month", "favourite book": "word",
    "favourite song": "word", "favorite movie": "word", "favourite drink": "food",
    "lucky number": "number", "house number": "number", "phone number": "number",
    "order number": "code", "room number": "number", "seat number": "code", "ticket number": "code",
    "account number": "number", "locker number": "number", "flight number": "code",
    "code word": "codeword", "password": "codeword", "passphrase": "codeword", "pin": "number",
    "door code": "codeword", "secret word": "codeword", "username": "codeword", "nickname": "name",
    "dog's name": "name", "cat's name": "name", "horse's name": "name", "sister's name": "name",
    "brother's name": "name", "mother's name": "name", "father's name": "name", "son's name": "name",
    "daughter's name": "name", "friend's name": "name", "boss's name": "name", "wife's name": "name",
    "husband's name": "name", "teacher's name": "name", "dog": "name", "cat": "name",
    "best friend": "name", "teacher": "name", "boss": "name", "city": "city", "home town": "city",
    "project": "word", "team": "word", "company": "word", "birthday month": "month", "car": "word",
    "hobby": "word", "language": "language", "native language": "language", "surname": "name",
    "last name": "name", "hometown": "city", "pet": "animal",
}  # fmt: skip
_THINGS: dict[str, str] = {
    "code word": "codeword", "password": "codeword", "passphrase": "codeword", "magic word": "word",
    "door code": "codeword", "wifi password": "codeword", "room number": "number", "key": "codeword",
    "gate number": "number", "order id": "code", "ticket": "code", "project name": "word",
    "meeting room": "word", "secret": "codeword", "secret word": "codeword", "secret code": "codeword",
    "secret number": "number", "token": "code", "serial number": "code", "access code": "codeword",
    "file name": "word", "team name": "word", "deadline": "month", "answer": "codeword",
    "winner": "name", "host": "name", "captain": "name", "keyword": "codeword", "number": "number",
    "word": "codeword", "name of the ship": "name", "colour of the door": "colour",
}  # fmt: skip
_FIXED = (NAME, CITY, AGE, WORK, LIKE)


def _say(world: World, fact: Fact, phrases: Phrases, value: str = "") -> str:
    return world.say(phrases, v=value, a=fact.key, A=_sentence(fact.key))


def spoken(world: World, fact: Fact) -> str:
    """How the user would tell or ask this."""
    return _say(world, fact, world.rng.choice((fact.tell, fact.ask)), world.draw(fact.category))


def value_of(world: World, fact: Fact) -> str:
    """A value for a fact, now and then of two words: New York, dark blue."""
    value = world.draw(fact.category)
    if world.rng.random() < 0.12 and not any(c.isdigit() for c in value):
        more = world.draw(fact.category)
        value += " " + (more.capitalize() if value[0].isupper() else more.lower())
    return value


def _sibling(world: World) -> Fact | None:
    """A fact easily taken for one already told: the cat's name beside the dog's."""
    told = [fact.key.split(" ", 1) for fact in world.facts if fact.key.split(" ", 1)[1] in _OWNED]
    if not told:
        return None
    owner, attribute = world.rng.choice(told)
    first, last = attribute.split()[0], attribute.split()[-1]
    near = [other for other in _OWNED if other != attribute and (first in other.split() or last in other.split())]
    if not near:
        return None
    other = world.rng.choice(near)
    return owned(owner, other, _OWNED[other])


def any_fact(world: World) -> Fact:
    """A kind of fact: names and favourites often, made-up kinds now and then."""
    rng = world.rng
    if rng.random() < 0.35 and (near := _sibling(world)):
        return near
    kind = rng.random()
    if kind < 0.40:
        return NAME if kind < 0.24 else rng.choice(_FIXED[1:])
    if kind < 0.70:
        attribute = rng.choice(list(_OWNED))
        return owned("my", attribute, _OWNED[attribute])
    if kind < 0.86:
        thing = rng.choice(list(_THINGS))
        return owned("the", thing, _THINGS[thing])
    if kind < 0.92:
        attribute = rng.choice(list(_OWNED))
        return owned(f"{world.draw('name')}'s", attribute, _OWNED[attribute])
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
    pool = changed if changed and world.rng.random() < 0.5 else list(world.facts)
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
