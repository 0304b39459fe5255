"""Calling a tool with arguments from the request, and telling what it answered."""

import json
from collections.abc import Callable
from typing import Any

from tools.training.chat.dialogue import ToolCall, World
from tools.training.chat.skills import fallback
from tools.training.chat.skills.catalogue import CATALOGUE
from tools.training.chat.skills.tool import Tool, made_up

_WEATHER = ["sunny", "cloudy", "rainy", "windy", "snowy", "foggy", "clear", "stormy"]
_STATUS = [
    "ok",
    "sent",
    "done",
    "shipped",
    "delivered",
    "pending",
    "started",
    "queued",
    "open",
    "closed",
    "ready",
    "lost",
    "playing",
    "saved",
]
RESULT = "Here is the result: {v}"
FAILED = "The tool failed: {v}"


def give_tools(world: World, made_up_share: float = 0.25) -> None:
    """Put one to four tools on the table."""
    rng = world.rng
    count = rng.choice((1, 1, 2, 2, 3, 4))
    chosen: list[Tool] = rng.sample(list(CATALOGUE), count)
    chosen = [made_up(rng, world.lexicon) if rng.random() < made_up_share else tool.variant(rng) for tool in chosen]
    world.tools = list({tool.name: tool for tool in chosen}.values())


def _degrees(world: World) -> str:
    sky = world.rng.choice(_WEATHER)
    return f"{world.rng.randint(-20, 45)} degrees" + world.rng.choice(("", f", {sky}", f" and {sky}"))


def _real_or_drawn(words: list[str], share: float) -> Callable[[World], str]:
    def draw(world: World) -> str:
        return world.rng.choice(words) if world.rng.random() < share else world.draw("word").lower()

    return draw


_VALUES: dict[str, Callable[[World], str]] = {
    "phrase": lambda world: world.lexicon.words(world.rng, 1, world.rng.choice((1, 2, 4))),
    "sentence": lambda world: world.lexicon.words(world.rng, 3, 8).capitalize() + ".",
    "title": lambda world: world.lexicon.words(world.rng, 1, 3),
    "list": lambda world: json.dumps([world.draw("word") for _ in range(world.rng.randint(1, 3))], ensure_ascii=False),
    "small": lambda world: str(world.rng.randint(1, 120)),
    "weather": _real_or_drawn(_WEATHER, 0.6),
    "status": _real_or_drawn(_STATUS, 0.5),
    "time": lambda world: f"{world.rng.randint(0, 23)}:{world.rng.randint(0, 59):02d}",
    "degrees": _degrees,
    "decimal": lambda world: f"{world.draw('number')}.{world.rng.randint(0, 99):02d}",
}


def _value(world: World, category: str) -> str:
    return _VALUES[category](world) if category in _VALUES else world.draw(category)


def _answer(result: dict[str, Any]) -> str:
    parts = [f"the {key.replace('_', ' ')} is {value}" for key, value in result.items()]
    text = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
    return text[:1].upper() + text[1:] + "."


def _result(world: World, tool: Tool, arguments: dict[str, Any]) -> tuple[str, str]:
    """What the tool returns, and what the model is to say about it."""
    rng = world.rng
    if rng.random() < 0.08:
        error = (
            world.lexicon.words(rng, 2, 4)
            if rng.random() < 0.5
            else rng.choice(("not found", "timeout", "no connection", "unknown city", "access denied"))
        )
        return json.dumps({"error": error}), FAILED.format(v=error)
    shape = rng.choice(tool.results)
    if rng.random() < 0.12:
        shape = tuple((world.draw("word").lower(), rng.choice(("word", "number"))) for _ in range(rng.randint(1, 3)))
    values: dict[str, Any] = {}
    for key, category in shape:
        if category.startswith("="):
            values[key] = arguments[_name_of(tool, category[1:])]
            continue
        text = _value(world, category)
        numeric = category in ("number", "small", "decimal") and rng.random() < 0.8
        values[key] = (float(text) if "." in text else int(text)) if numeric else text
    if "" in values:
        return str(values[""]), RESULT.format(v=values[""])
    # A number is told as the JSON writes it: 5.0 and 5.10 would not survive Python's formatting.
    told = {k: json.dumps(v) if isinstance(v, float) else v for k, v in values.items()}
    return json.dumps(values, ensure_ascii=False), _answer(told)


def _name_of(tool: Tool, slot: str) -> str:
    return next(p.name for p in tool.parameters if (p.slot or p.name) == slot)


def arguments_for(world: World, tool: Tool) -> tuple[dict[str, Any], dict[str, str]]:
    """Values for a call: as JSON arguments, and as they stand in the request."""
    texts = {p.name: _value(world, p.category) for p in tool.parameters}
    return {p.name: int(texts[p.name]) if p.numeric else texts[p.name] for p in tool.parameters}, texts


def request(world: World, tool: Tool, answered: bool = True) -> None:
    """A request that needs the tool: the call, the result, the answer."""
    arguments, texts = arguments_for(world, tool)
    quoted = {
        p.slot or p.name: f'"{texts[p.name]}"'
        if p.category in ("phrase", "title") and world.rng.random() < 0.3
        else texts[p.name]
        for p in tool.parameters
    }
    world.user(world.say(tool.ask, **quoted))
    world.call((ToolCall(tool.name, arguments),), f"I will call {tool.name}.")
    if answered:
        result, told = _result(world, tool, arguments)
        world.tool(result)
        world.reply(told)


def use(world: World) -> None:
    """A request for one of the tools at hand; without tools, anything else."""
    if not world.tools:
        return fallback.fallback(world)
    tool = world.rng.choice(world.tools)
    # A query may hold an "and" of its own.
    single = len(tool.parameters) == 1 and tool.parameters[0].category not in ("phrase", "title")
    if single and world.rng.random() < 0.05:
        return both(world, tool)
    return request(world, tool)


def both(world: World, tool: Tool) -> None:
    """Two values for one tool in one request: two calls at once, two results in one turn."""
    first, texts = arguments_for(world, tool)
    second, others = arguments_for(world, tool)
    name = tool.parameters[0].name
    slot = tool.parameters[0].slot or name
    world.user(world.say(tool.ask, **{slot: f"{texts[name]} and {others[name]}"}))
    world.call((ToolCall(tool.name, first), ToolCall(tool.name, second)), f"I will call {tool.name} twice.")
    answers = []
    for arguments in (first, second):
        result, told = _result(world, tool, arguments)
        world.tool(result)
        answers.append(told)
    world.reply(" ".join(answers))


def missing(world: World) -> None:
    """A request for a catalogue tool that is not at hand: no call, the honest fallback."""
    rng = world.rng
    # A tool under another name is the same tool, and is asked for in the same words.
    at_hand = [tool.ask for tool in world.tools]
    absent = [tool for tool in CATALOGUE if tool.ask not in at_hand and tool.name != "play_music"]
    if not absent or (not at_hand and rng.random() < 0.5):
        return fallback.fallback(world)
    tool = rng.choice(absent)
    _, texts = arguments_for(world, tool)
    world.user(world.say(tool.ask, **texts))
    world.reply(fallback.SORRY)
    return None
