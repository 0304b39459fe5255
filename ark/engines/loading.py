"""The installed backends: classes found by their entry points, and what they say before a model is opened."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar, cast

from ark.config import ConfigError, ModelConfig, Task
from ark.engines import hub
from ark.engines.backend import Backend, Detection, ReportProgress
from ark.engines.model_files import CONFIG, ModelFiles, find_local, read_model_files

log = logging.getLogger("ark.backends")

ENTRY_POINT_GROUP = "ark.backends"

T = TypeVar("T")

_METHODS = {"chat": "generate", "embedding": "embed", "rerank": "rerank", "transcription": "transcribe"}
"""The method that does the work of a task: by it a backend is known."""


class InstalledBackend:
    """A backend's class under its name, with an answer to each question that the class need not answer."""

    def __init__(self, name: str, kind: type[Backend]) -> None:
        self.name = name
        self.kind = kind

    def does(self, task: str) -> bool:
        return callable(getattr(self.kind, _METHODS[task], None))

    @property
    def extras(self) -> str | None:
        """What ``pip install`` takes to bring all that the backend needs."""
        return getattr(self.kind, "extras", None)

    @property
    def detects(self) -> bool:
        """Whether it may be chosen for a model whose configuration names no backend."""
        return hasattr(self.kind, "detect")

    def default_for(self, task: Task) -> ModelConfig | None:
        return self._ask("default_for", ModelConfig, task)

    def read_files(self, source: str, revision: str | None) -> ModelFiles | None:
        return self._ask("read_files", ModelFiles, source, revision)

    def detect(self, files: ModelFiles) -> Detection | None:
        return self._ask("detect", Detection, files)

    def problems(self, model: ModelConfig, files: ModelFiles) -> list[str]:
        """What this machine lacks to open a model, and what is wrong with the model's own options."""
        missing = self._ask("missing_requirements", cast(type[Sequence[str]], Sequence)) or ()
        try:
            reason = self._ask("unsupported_reason", str, model, files)
        except ConfigError as error:
            reason = str(error)
        return [*missing] if reason is None else [*missing, reason]

    def fetch(self, model: ModelConfig, report: ReportProgress) -> Path | None:
        """Where a model's files are, downloaded if need be; None where the backend downloads nothing. Blocks."""
        fetch = getattr(self.kind, "fetch", None)
        return None if fetch is None else fetch(model, report)

    def download_bytes(self, model: ModelConfig) -> int:
        measure = getattr(self.kind, "download_bytes", None)
        return 0 if measure is None else measure(model)

    def _ask(self, method: str, kind: type[T], *arguments: Any) -> T | None:
        """What a class method answers; None where there is none, and where it fails: that is logged, so that a broken
        backend keeps no other model from being served."""
        answer = getattr(self.kind, method, None)
        if answer is None:
            return None
        try:
            found = answer(*arguments)
        except Exception as error:
            if isinstance(error, ConfigError) and method in ("unsupported_reason", "read_files"):
                raise
            log.exception("the backend %s fails at %s", self.name, method)
            return None
        if found is None or isinstance(found, kind):
            return found
        log.error("the backend %s answers %s with a %s", self.name, method, type(found).__name__)
        return None


@cache
def installed_backends() -> Sequence[InstalledBackend]:
    """Every backend that can be imported, by name. The import of one must take no time; one that fails is logged."""
    found = []
    for point in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda point: point.name):
        try:
            found.append(InstalledBackend(point.name, point.load()))
        except Exception:
            log.exception("the backend %s cannot be imported", point.name)
    return tuple(found)


def read_files(source: str, revision: str | None = None) -> ModelFiles:
    """What a model's files say: its config.json, downloaded if need be, or else what a backend reads. Raises
    ConfigError."""
    local = find_local(source)
    directory = hub.small_files(source, revision) if local is None else local
    if not (directory / CONFIG).is_file() or (local is None and ":" in source):
        for backend in installed_backends():
            if (found := backend.read_files(source, revision)) is not None:
                return found
    return read_model_files(directory)


def find_backend(name: str, task: str) -> InstalledBackend:
    """The class that the entry point `name` of the group ``ark.backends`` points to.

    A name with a colon, ``package.module:Class``, is imported as it stands. Raises LookupError with the names that
    are installed, with what the import lacks, or when the class does not do `task`.
    """
    if ":" in name:
        point = EntryPoint(name, name, ENTRY_POINT_GROUP)
    else:
        points = {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
        if name not in points:
            known = ", ".join(sorted(points)) or "none"
            raise LookupError(f"no backend is called {name!r}; installed: {known}")
        point = points[name]
    try:
        backend = InstalledBackend(name, point.load())
    except (ImportError, AttributeError) as error:
        raise LookupError(f"the backend {name!r} cannot be imported: {error}") from error
    if not backend.does(task):
        raise LookupError(f"the backend {name!r} does not do the task {task!r}: it has no method {_METHODS[task]}")
    return backend
