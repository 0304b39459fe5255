"""What every backend is: a class that opens a model, says what it can do and how it is.

A backend is found by its entry point in the group ``ark.backends``. It imports `ark.engines`, `ark.config` and
`ark.errors`, and nothing else of the server. Values that cross are engine-neutral: plain ids, numbers and text.
"""

from __future__ import annotations

from typing import Protocol, Self

import msgspec

from ark.config import ModelConfig


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a model can do, as GET /models lists it."""

    parameters: frozenset[str]
    """Request parameters that are honoured, by their names in the API."""
    reasoning: bool = False
    """The chat template has think tags: replies are split into reasoning and content."""


class Status(Protocol):
    """What the status of any engine tells."""

    @property
    def alive(self) -> bool: ...

    @property
    def running(self) -> int: ...

    @property
    def waiting(self) -> int: ...


class Backend(Protocol):
    """An opened model of any task.

    Its class may have two static or class methods beside these, which ``ark check`` shows: ``missing() ->
    Sequence[str]``, what this machine lacks to open any model, each with what to do about it; and ``lacking(model,
    directory) -> Sequence[str]``, what it lacks to open this one, whose files are in a directory, or what is wrong with
    the model's own options.
    """

    @classmethod
    async def open(cls, model: ModelConfig) -> Self:
        """Load a model. Long work happens in a worker thread; errors name what to change in the configuration."""
        ...

    async def close(self) -> None:
        """Fail what still runs, stop the engine and free its memory. May be called twice."""
        ...

    @property
    def capabilities(self) -> Capabilities: ...

    def status(self) -> Status: ...
