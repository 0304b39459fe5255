"""What a tool of the training data is, and tools that nobody has seen."""

import random
from dataclasses import dataclass, replace
from typing import Any

from tools.training.chat.lexicon import Lexicon
from tools.training.chat.phrasing import Phrases, expand

NEED = "[|||Please |Now |Hi, |OK, |So, ]"
CAN_YOU = "[Can you|Could you|Will you|Please]"


@dataclass(frozen=True)
class Parameter:
    """One argument: where its values come from, and whether it is written as a number."""

    name: str
    category: str
    describe: str
    numeric: bool = False
    slot: str = ""
    aliases: tuple[str, ...] = ()
    """Other names under which a request may declare it."""


@dataclass(frozen=True)
class Tool:
    """A function the model may call. Slots in `ask` and keys of `results` name its values."""

    name: str
    describe: str
    parameters: tuple[Parameter, ...]
    ask: Phrases
    results: tuple[tuple[tuple[str, str], ...], ...]
    aliases: tuple[str, ...] = ()
    extra: dict[str, Any] | None = None
    """An optional parameter that requests declare now and then, and no call needs."""

    def variant(self, rng: random.Random) -> "Tool":
        """The tool as one client names it."""
        if rng.random() < 0.5:
            return self
        parameters = tuple(
            replace(p, name=rng.choice((p.name, *p.aliases)), slot=p.slot or p.name) for p in self.parameters
        )
        return replace(self, name=rng.choice((self.name, *self.aliases)), parameters=parameters)

    def schema(self, rng: random.Random) -> dict[str, Any]:
        """The tool as a request describes it, worded differently each time."""
        properties: dict[str, Any] = {}
        for parameter in self.parameters:
            properties[parameter.name] = {"type": rng.choice(("integer", "number")) if parameter.numeric else "string"}
            if rng.random() < 0.6:
                properties[parameter.name]["description"] = expand(rng, parameter.describe)
        if self.extra and rng.random() < 0.2:
            properties |= self.extra
        function: dict[str, Any] = {"name": self.name}
        if rng.random() < 0.9:
            function["description"] = expand(rng, self.describe)
        function["parameters"] = {"type": "object", "properties": properties}
        if rng.random() < 0.8 or len(properties) > len(self.parameters):
            function["parameters"]["required"] = [p.name for p in self.parameters]
        return {"type": "function", "function": function}


_VERBS = [
    "get",
    "fetch",
    "find",
    "check",
    "read",
    "open",
    "update",
    "create",
    "remove",
    "start",
    "stop",
    "show",
    "load",
    "count",
    "book",
]


def made_up(rng: random.Random, lexicon: Lexicon) -> Tool:
    """A tool nobody has seen: random name, one or two string parameters."""
    verb = rng.choice(_VERBS)
    noun = lexicon.draw(rng, "word").lower()
    names: list[str] = []
    while len(names) < rng.choice((1, 1, 2)):
        name = lexicon.draw(rng, "word").lower()
        if name not in names and name != noun:
            names.append(name)
    with_them = " and ".join(f"{name} {{{name}}}" for name in names)
    assigned = ", ".join(f"{name}={{{name}}}" for name in names)
    tool = f"{verb}_{noun}"
    ask = [
        f"[Please |||]{verb} the {noun} [with|for] {with_them}.",
        f"[Call|Use|Run|Please call|Please use] {tool} [with|for] {with_them}.",
        f"[Call|Use|Run] {tool} with {assigned}.",
        f"[Can you|Could you] {verb} the {noun} [with|for] {with_them}?",
    ]
    if len(names) == 1:
        ask += [f"[Please |||]{verb} the {noun} [of|for] {{{names[0]}}}.", f"{verb} {noun} {{{names[0]}}}"]
    category = rng.choice(("codeword", "word", "name", "city"))
    return Tool(
        tool,
        f"[{verb.capitalize()}|{verb.capitalize()}s] [a|the] {noun}[|.]",
        tuple(Parameter(name, category, f"[The|A] {name}[|.]") for name in names),
        Phrases(tuple(ask)),
        ((("status", "status"),), ((noun, "word"),), ((noun, "number"),), (("", "word"),), (("", "phrase"),)),
    )
