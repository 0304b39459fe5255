"""A conversation while it is being made: what was said, what is known, which tools there are."""

import random
from dataclasses import dataclass, field
from typing import Any, Literal

from tools.training.chat.lexicon import Lexicon, Split
from tools.training.chat.phrasing import Phrases

Thinking = Literal["kept", "stripped", "off"]
"""What becomes of reasoning: kept in the history, stripped from it, or never written."""


@dataclass(frozen=True)
class ToolCall:
    """A call as the model writes it."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Message:
    """One message. `learn` is False for a reply whose words could not be foreseen."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    reasoning: str | None = None
    calls: tuple[ToolCall, ...] = ()
    learn: bool = True

    def as_dict(self) -> dict[str, Any]:
        """The message in the form chat templates read."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning is not None:
            message["reasoning_content"] = self.reasoning
        if self.calls:
            message["tool_calls"] = [
                {"type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in self.calls
            ]
        return message


@dataclass
class Dialogue:
    """A finished conversation and the way it is to be rendered."""

    messages: list[Message]
    thinking: Thinking
    tools: list[dict[str, Any]]


@dataclass
class World:
    """What skills read and change while they add exchanges to a conversation.

    `facts` maps the key of a fact to its value, `secrets` a kind of secret to the word the
    assistant keeps, or to None where it had to refuse.
    """

    rng: random.Random
    lexicon: Lexicon
    phrasing: Split = "train"
    thinking: Thinking = "kept"
    tools: list[Any] = field(default_factory=list)
    facts: dict[Any, str] = field(default_factory=dict)
    corrected: set[Any] = field(default_factory=set)
    secrets: dict[str, str | None] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)

    def draw(self, category: str) -> str:
        """A value for this conversation."""
        return self.lexicon.draw(self.rng, category)

    def say(self, phrases: Phrases, **slots: str) -> str:
        """One reading of the phrases."""
        return phrases.say(self.rng, self.phrasing, **slots)

    def user(self, text: str) -> None:
        """The user speaks."""
        self.messages.append(Message("user", text))

    def reply(self, text: str, reasoning: str | None = None, learn: bool = True) -> None:
        """The assistant answers; without reasoning allowed, it only gives the answer."""
        if self.thinking == "off":
            reasoning = None
        self.messages.append(Message("assistant", text, reasoning, learn=learn))

    def call(self, calls: tuple[ToolCall, ...], reasoning: str) -> None:
        """The assistant calls tools."""
        thought = None if self.thinking == "off" else reasoning
        self.messages.append(Message("assistant", "", thought, calls))

    def tool(self, result: str) -> None:
        """A tool answers."""
        self.messages.append(Message("tool", result))
