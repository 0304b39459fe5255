"""Whole dialogues: which skills, in which order, with which system message."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from tools.training.chat.dialogue import Dialogue, Message, Thinking, World
from tools.training.chat.lexicon import Lexicon
from tools.training.chat.skills import count, echo, facts, fallback, secrets, story, structured, talk, tools

Skill = Callable[[World], None]

MIX: dict[Skill, float] = {
    facts.tell: 13,
    facts.tell_two: 2,
    facts.tell_alike: 3,
    facts.tell_and_ask: 1.5,
    facts.correct: 14,
    facts.ask: 18,
    facts.ask_unknown: 10,
    secrets.keep: 7,
    secrets.tell: 11,
    echo.echo: 19,
    talk.who: 5,
    talk.can: 4,
    talk.small_talk: 18,
    count.count: 5,
    story.story: 6,
    structured.json_object: 8,
    tools.use: 2,
    tools.missing: 6,
    fallback.fallback: 13,
}
_WITH_TOOLS: dict[Skill, float] = {tools.use: 150, tools.missing: 7}
"""Where there are tools, about one request in twenty is for a tool that is not among them."""
_AT_THE_END: dict[Skill, float] = {facts.ask: 45, secrets.tell: 25, facts.ask_unknown: 12}
"""Long dialogues end with a question about their beginning more often than chance would."""

_SYSTEM = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are ARK, a helpful assistant.",
    "You are a friendly chatbot. Answer briefly.",
    "Answer in short sentences.",
    "You are an assistant. Be concise and polite.",
    "You are a helpful, honest and harmless AI assistant.",
    "Be brief.",
    "You are a test assistant.",
)


@dataclass(frozen=True)
class Shape:
    """How long dialogues are, in characters: drawn between the bounds, more often short."""

    low: int
    high: int


def _pick(rng: random.Random, mix: dict[Skill, float]) -> Skill:
    return rng.choices(list(mix), list(mix.values()))[0]


def open_world(rng: random.Random, lexicon: Lexicon, thinking: Thinking | None = None) -> World:
    """An empty conversation, with or without a system message."""
    if thinking is None:
        thinking = rng.choices(("kept", "stripped", "off"), (58, 27, 15))[0]
        assert thinking is not None
    world = World(rng, lexicon, thinking=thinking)
    kind = rng.random()
    if kind < 0.4:
        return world
    if kind < 0.7:
        text = rng.choice(_SYSTEM)
    elif kind < 0.9:
        sentences = [f"You are {rng.choice(('', 'a ', 'the '))}{lexicon.draw(rng, 'word')}."]
        for _ in range(rng.choice((0, 1, 1, 2, 4))):
            opening = rng.choice(("Always", "Never", "You should", "The user is", "Please", "Do not", ""))
            sentences.append(f"{opening} {lexicon.words(rng, 2, 9)}.".strip())
        text = " ".join(sentences)
    else:
        text = rng.choice(_SYSTEM)
        fact = facts.any_fact(world)
        if fact.key.startswith("the "):
            value = lexicon.draw(rng, fact.category)
            world.facts[fact] = value
            text += f" {fact.key[:1].upper()}{fact.key[1:]} is {value}."
    world.messages.append(Message("system", text))
    return world


def dialogue(rng: random.Random, lexicon: Lexicon, shape: Shape) -> Dialogue:
    """One training dialogue."""
    world = open_world(rng, lexicon)
    if rng.random() < 0.65:
        tools.give_tools(world)
    mix = dict(MIX)
    if world.tools:
        mix |= _WITH_TOOLS
    # A dialogue leans towards some skills, so that short ones hold a question and its ground.
    for skill in rng.sample(list(mix), 3):
        mix[skill] *= 4
    target = shape.low + (shape.high - shape.low) * rng.random() ** 1.5
    used = sum(len(m.content) for m in world.messages) + sum(len(str(t.parameters)) for t in world.tools)
    start = len(world.messages)
    while True:
        _pick(rng, mix)(world)
        used += sum(len(m.content) + 40 for m in world.messages[start:])
        start = len(world.messages)
        # A skill that finds no room, such as a second secret of a kind, adds nothing.
        if used > target and world.messages[-1:] and world.messages[-1].role != "system":
            break
    # A long dialogue is dear: its end asks for several things of its beginning.
    if shape.low > 1000:
        known = list(world.facts)
        for fact in rng.sample(known, min(len(known), rng.randint(1, 7))):
            facts.ask(world, fact)
    if rng.random() < 0.6 and (world.facts or world.secrets):
        if world.thinking != "kept" and not world.secrets:
            facts.ask(world)
        else:
            _pick(rng, _AT_THE_END)(world)
    return Dialogue(world.messages, world.thinking, [tool.schema(rng) for tool in world.tools])
