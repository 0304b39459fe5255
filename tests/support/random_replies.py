"""What tests ask of a model with random weights, and what it is forced to say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai

from ark.config import ModelConfig

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
NUMBER = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}}}
STRICT = NUMBER | {"required": ["a"], "additionalProperties": False}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "count", "parameters": STRICT, "strict": True}},
    {"type": "function", "function": {"name": "wait"}},
]
SCHEMA: Any = {"type": "json_schema", "json_schema": {"name": "number", "schema": STRICT, "strict": True}}
THINK = 98
"""The id of ``<think>`` in the model's vocabulary; the closing tag follows."""


def letter(text: str) -> int:
    """The id of a printable character."""
    return ord(text) - 33


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    """A completion at a high temperature, so that nothing is right by chance."""
    base: dict[str, Any] = {"model": "tiny", "messages": HELLO, "temperature": 1.5, "seed": 1, "max_tokens": 100}
    if fields.get("model") != "plain":
        # Once a random model thinks, it does for long.
        base["reasoning_effort"] = "none"
    return client.chat.completions.create(**(base | fields))


def families(path: Path, plain: Path) -> tuple[ModelConfig, ...]:
    """One model under every format of tools, and a plain one."""
    engine = {"dtype": "float32", "threads": 1, "self_check": False}
    return (
        ModelConfig(name="tiny", path=str(path), engine=engine),
        ModelConfig(name="plain", path=str(plain), engine=engine),
        ModelConfig(name="document", path=str(path), engine=engine, capabilities="document"),
        ModelConfig(name="llama", path=str(path), engine=engine, tool_format="llama"),
        ModelConfig(name="mistral", path=str(path), engine=engine, tool_format="mistral"),
        ModelConfig(name="mistral_args", path=str(path), engine=engine, tool_format="mistral_args"),
    )
