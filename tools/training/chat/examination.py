"""The cases a trained model is examined on: values it has never seen, and phrasings it has never seen."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tools.training.chat import generate, render
from tools.training.chat.dialogue import Dialogue, Thinking, World
from tools.training.chat.lexicon import Lexicon
from tools.training.chat.skills import count, echo, facts, fallback, secrets, story, structured, talk, tools
from tools.training.chat.skills.catalogue import CATALOGUE
from tools.training.chat.skills.kinds import Fact
from tools.training.chat.skills.tool import made_up

_FILLERS: tuple[generate.Skill, ...] = (
    echo.echo, echo.echo, talk.small_talk, count.count, story.story, structured.json_object,
    fallback.fallback, fallback.fallback, fallback.fallback, facts.tell, facts.tell, talk.who, talk.can,
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One question: the text the model reads and the text it has to write."""

    skill: str
    prompt: str
    expected: str
    thinking: Thinking


@dataclass(frozen=True)
class Topic:
    """A skill under examination. `paraphrased` says whether unseen phrasings are asked too."""

    name: str
    goal: float
    add: Callable[[World], None]
    thinking: tuple[Thinking, ...] = ("kept", "stripped", "off")
    before: tuple[int, int] = (0, 700)
    paraphrased: bool = True


def _filler(world: World, low: int, high: int, spare: Fact | None = None) -> None:
    """Other talk of `low` to `high` characters that leaves one fact as it is."""
    target = world.rng.randint(low, high)
    phrasing, world.phrasing = world.phrasing, "train"
    start = len(world.messages)
    while sum(len(m.content) + 40 for m in world.messages[start:]) < target:
        kept, said = dict(world.facts), len(world.messages)
        world.rng.choice(_FILLERS)(world)
        if spare is not None and world.facts.get(spare) != kept.get(spare):
            del world.messages[said:]
            world.facts = kept
    world.phrasing = phrasing


def _recall(low: int, high: int) -> Callable[[World], None]:
    def add(world: World) -> None:
        fact = facts.any_fact(world)
        facts.state(world, fact, world.draw(fact.category))
        fact = next(f for f in world.facts if f.key == fact.key)
        _filler(world, low, high, fact)
        facts.ask(world, fact)

    return add


def _corrected(world: World) -> None:
    world.facts.clear()
    fact = facts.any_fact(world)
    facts.state(world, fact, world.draw(fact.category))
    _filler(world, 0, 300, fact)
    others = {f: v for f, v in world.facts.items() if f != fact}
    world.facts = {fact: world.facts[fact]}
    facts.correct(world)
    world.facts |= others
    _filler(world, 0, 300, fact)
    facts.ask(world, fact)


def _secret(low: int, high: int) -> Callable[[World], None]:
    def add(world: World) -> None:
        while not world.secrets:
            secrets.keep(world)
        _filler(world, low, high)
        secrets.tell(world)

    return add


def _keep(world: World) -> None:
    before = len(world.messages)
    while len(world.messages) == before:
        secrets.keep(world)


def _tool(own: bool, part: str) -> Callable[[World], None]:
    def add(world: World) -> None:
        rng = world.rng
        number = rng.randint(1, 3)
        world.tools = (
            [made_up(rng, world.lexicon) for _ in range(number)]
            if own
            else [tool.variant(rng) for tool in rng.sample(list(CATALOGUE), number)]
        )
        tool = rng.choice(world.tools)
        if part == "two calls":
            single = [
                t for t in CATALOGUE if len(t.parameters) == 1 and t.parameters[0].category not in ("phrase", "title")
            ]
            tool = rng.choice(single)
            world.tools = [tool]
            tools.both(world, tool)
            del world.messages[-3:]
            return
        tools.request(world, tool)
        if part == "call":
            del world.messages[-2:]

    return add


def _needless(world: World) -> None:
    tools.give_tools(world)
    world.rng.choice(
        (echo.echo, talk.small_talk, facts.tell, facts.ask, facts.ask_unknown, fallback.fallback, talk.who)
    )(world)


def _missing(world: World) -> None:
    world.tools = world.rng.sample(list(CATALOGUE), world.rng.randint(0, 2))
    tools.missing(world)


def _unknown(world: World) -> None:
    world.facts.clear()
    del world.messages[:]
    _filler(world, 0, 900)
    before = len(world.messages)
    facts.ask_unknown(world)
    if not world.messages[-1].content.startswith("You have not told me"):
        del world.messages[before:]
        _unknown(world)


TOPICS: tuple[Topic, ...] = (
    Topic("recall", 0.95, _recall(0, 600)),
    Topic("recall, 300-700 tokens", 0.95, _recall(1300, 2300), paraphrased=False),
    Topic("recall, 700-1500 tokens", 0.90, _recall(2600, 4600), before=(0, 100), paraphrased=False),
    Topic("corrected fact", 0.95, _corrected),
    Topic("not told", 0.95, _unknown),
    Topic("secret kept", 0.95, _keep, ("kept", "stripped")),
    Topic("secret told", 0.95, _secret(0, 600), ("kept",)),
    Topic("secret told, 300-700 tokens", 0.95, _secret(1300, 2300), ("kept",), paraphrased=False),
    Topic("secret lost", 0.95, _secret(0, 900), ("stripped",)),
    Topic("secret without reasoning", 0.95, _secret(0, 500), ("off",), paraphrased=False),
    Topic("echo", 0.95, echo.echo),
    Topic("who are you", 0.95, talk.who),
    Topic("what can you do", 0.95, talk.can),
    Topic("small talk", 0.95, talk.small_talk),
    Topic("fallback", 0.95, fallback.fallback),
    Topic("tool call", 0.95, _tool(False, "call"), before=(0, 300)),
    Topic("tool result", 0.95, _tool(False, "result"), before=(0, 300), paraphrased=False),
    Topic("tools not needed", 0.95, _needless, before=(0, 300), paraphrased=False),
    Topic("tool missing", 0.85, _missing, before=(0, 300), paraphrased=False),
    Topic("JSON", 0.85, structured.json_object),
    Topic("count", 0.85, count.count),
    Topic("story", 0.85, story.story),
    Topic("two tool calls", 0.0, _tool(False, "two calls"), before=(0, 300), paraphrased=False),
    Topic("unseen tool call", 0.0, _tool(True, "call"), before=(0, 300), paraphrased=False),
    Topic("unseen tool result", 0.0, _tool(True, "result"), before=(0, 300), paraphrased=False),
)


def cases(topic: Topic, number: int, seed: int, paraphrased: bool) -> Iterator[Case]:
    """`number` cases of a topic, the same for the same seed."""
    rng = random.Random(f"examination-{seed}-{topic.name}-{paraphrased}")
    lexicon = Lexicon("held_out")
    for i in range(number):
        world = generate.open_world(rng, lexicon, topic.thinking[i % len(topic.thinking)])
        _filler(world, 0, rng.randint(*topic.before))
        world.phrasing = "held_out" if paraphrased else "train"
        topic.add(world)
        schemas: list[dict[str, Any]] = [tool.schema(rng) for tool in world.tools]
        parts = render.pieces(Dialogue(world.messages, world.thinking, schemas), rng)
        name = f"{topic.name}, unseen phrasing" if paraphrased else topic.name
        yield Case(name, "".join(text for text, _ in parts[:-2]), parts[-2][0], world.thinking)
