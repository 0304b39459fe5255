"""Parameters that change an answer, and what happens to one that the serving model cannot honour."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ark.engines.backend import Capabilities
from ark.errors import UnsupportedParameter

Neutral = Mapping[str, Callable[[Any], bool]]
"""For each parameter that can change the answer: whether a value changes nothing, and so is always accepted."""


class NamesModel(Protocol):
    """A decoded request."""

    @property
    def model(self) -> str: ...


def unsupported(body: NamesModel, neutral: Neutral, capabilities: Capabilities) -> list[str]:
    """Parameters whose value would change the answer and that the model cannot honour."""
    return [
        name
        for name, changes_nothing in neutral.items()
        if name not in capabilities.parameters
        and (value := getattr(body, name)) is not None
        and not changes_nothing(value)
    ]


def to_ignore(body: NamesModel, neutral: Neutral, capabilities: Capabilities, *, ignore: bool) -> list[str]:
    """Names of the parameters to ignore. Raises UnsupportedParameter for the first one unless `ignore` is set."""
    names = unsupported(body, neutral, capabilities)
    if names and not ignore:
        name = names[0]
        raise UnsupportedParameter(f"The model '{body.model}' does not support '{name}'.", param=name)
    return names


def ignored_header(names: Sequence[str]) -> list[tuple[str, str]]:
    """The header that tells a client which of its parameters were dropped; none where there are none."""
    return [("x-ark-ignored", ", ".join(names))] if names else []
