"""What every backend is: a class that opens a model, and says what it can do and how it is.

A backend is found by its entry point in the group ``ark.backends``. It imports `ark.engines`, `ark.config`,
`ark.errors` and `ark.concurrency`, and nothing else of the server. Values that cross are engine-neutral: plain ids,
numbers and text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self

import msgspec

from ark.config import ModelConfig

ReportProgress = Callable[[int, int], object]
"""Called every quarter of a second or so with the bytes that have come, and their number in all. What it raises breaks
the download off."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a model can do, as GET /models lists it."""

    parameters: frozenset[str]
    """Request parameters that are honoured, by their names in the API."""
    reasoning: bool = False
    """The chat template has think tags: replies are split into reasoning and content."""
    prompt_logprobs: bool = False
    """A chat model can tell how likely the tokens of a prompt are."""
    deterministic: bool | None = None
    """A token's logits are the same bits whatever is cached and whatever runs beside; None where that is not known."""


class UpstreamStatus(msgspec.Struct, frozen=True, kw_only=True):
    """An engine elsewhere that computes for a backend. Counters only grow."""

    url: str
    up: bool
    running: int
    finished: int
    cancelled: int
    failed: int


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of an engine, cheap enough to take at every request. Counters only grow."""

    alive: bool
    """False once the engine can serve no more jobs; /ready is 503 from then on."""
    running: int = 0
    """Jobs of which a part is being computed."""
    waiting: int = 0
    """Jobs of which nothing has been computed yet."""
    jobs_finished: int = 0
    jobs_cancelled: int = 0
    jobs_failed: int = 0
    upstreams: tuple[UpstreamStatus, ...] = ()
    """Of a backend whose engines are elsewhere."""


class Detection(msgspec.Struct, frozen=True):
    """A backend's answer to `detect`: it runs the model."""

    rank: int
    """The highest of all backends' ranks wins: 1 runs most models of the task, 2 is made for such files."""
    reason: str
    """For the log, after the backend's name: ``for EXL2 weights``."""


class Backend(Protocol):
    """An opened model of any task.

    The class may also have these, each of which the server does without; `ark.engines.loading` asks for them. They
    answer before anything is opened, so they must import no engine.

    - ``extras: str``: what ``pip install`` takes to bring all that the backend needs.
    - ``default_for(task) -> ModelConfig | None``: the model to serve when the configuration names none.
    - ``read_files(source, revision) -> ModelFiles | None``: what the files of a source say that has no config.json, or
      names one of several models of a repository; None where it is none that the backend reads. Raises ConfigError for
      a damaged one.
    - ``detect(files: ModelFiles) -> Detection | None``: whether it runs a model, by its files.
    - ``missing_requirements() -> Sequence[str]``: what this machine lacks to open any model, each with what to do
      about it.
    - ``unsupported_reason(model, files: ModelFiles) -> str | None``: why this machine cannot open this model. Raises
      ConfigError for the model's own options.
    - ``fetch(model, report: ReportProgress) -> Path``: download a model's files if they are not here, and return what
      `open` gets as ``model.path``.
    - ``download_bytes(model) -> int``: the size of the weights that `fetch` would download.
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

    def status(self) -> EngineStatus: ...
