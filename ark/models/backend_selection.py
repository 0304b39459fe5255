"""Which backend serves a model whose configuration names none."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ark.config import ConfigError, ModelConfig, Task
from ark.engines import hub
from ark.engines.loading import installed_backends, read_files
from ark.engines.model_files import CONFIG, ModelFiles, find_local, read_json


class SelectedBackend(msgspec.Struct, frozen=True, kw_only=True):
    """A backend, and why it is this one."""

    name: str
    reason: str


def select_backend(model: ModelConfig) -> SelectedBackend:
    """The configured backend, else the one that fits the model's files best.

    May download a hub model's small files, so call it in a worker thread. Whether this machine can run the model the
    backend says when it opens it. Raises LookupError where no installed backend does the model's task.
    """
    if model.backend is not None:
        return SelectedBackend(name=model.backend, reason="as configured")
    several = sum(backend.does(model.task) and backend.detects for backend in installed_backends()) > 1
    # With one backend there is nothing to look for.
    return select_by_files(model, _directory(model) if several else None)


def select_by_files(model: ModelConfig, directory: Path | None) -> SelectedBackend:
    """The same for a model whose files are in `directory`, None where they cannot be seen. Downloads nothing."""
    if model.backend is not None:
        return SelectedBackend(name=model.backend, reason="as configured")
    found = best_backend(_look(model, directory))
    if found is None:
        raise LookupError(f"no installed backend runs models of the task {model.task!r}")
    return found


def usual_backend(task: Task) -> str:
    """The backend of a model of which nothing else is known; empty where none is installed."""
    found = best_backend(ModelFiles(task=task))
    return "" if found is None else found.name


def best_backend(files: ModelFiles) -> SelectedBackend | None:
    """The installed backend whose detection ranks highest, the first by name among equals."""
    best: SelectedBackend | None = None
    best_rank = 0
    for backend in installed_backends():
        detection = backend.detect(files) if backend.does(files.task) else None
        if detection is not None and (best is None or detection.rank > best_rank):
            best, best_rank = SelectedBackend(name=backend.name, reason=detection.reason), detection.rank
    return best


def _look(model: ModelConfig, directory: Path | None) -> ModelFiles:
    """What the files say. The configured task holds, and what is wrong with a file the backend says that needs it."""
    try:
        several = ":" in model.source and find_local(model.source) is None
        found = None if directory is None or several else read_json(directory / CONFIG)
        config = {} if directory is None else found or read_files(model.source, model.revision).config
    except ConfigError:
        config = {}
    return ModelFiles(task=model.task, directory=directory, config=config)


def _directory(model: ModelConfig) -> Path | None:
    """The directory of a model's files, of one on the hub only with its small ones; None where there is none."""
    directory = find_local(model.source)
    if directory is not None:
        return directory
    if not hub.installed():
        return None
    try:
        return hub.small_files(model.source, model.revision)
    except ConfigError:
        # The backend asks for them too, and says what is wrong.
        return None
