"""What is served where the configuration does not say: the models that the installed backends bring, which it may also
name, and the names that clients of OpenAI and Anthropic ask for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import msgspec

from ark.config import Config, ConfigError, ModelConfig, Task
from ark.engines.loading import InstalledBackend, installed_backends
from ark.engines.model_files import ModelFiles, find_local

log = logging.getLogger("ark.registry")

TASKS: Sequence[Task] = get_args(Task)

DEFAULT_ALIASES: Mapping[str, Sequence[str]] = {
    "chat": (
        *("gpt-3.5-turbo", "gpt-4o", "gpt-4o-mini"),
        *("gpt-*", "chatgpt-*", "codex-*", "o1*", "o3*", "o4*", "claude-*"),
    ),
    "embedding": ("text-embedding-ada-002", "text-embedding-3-small", "text-embedding-3-large", "text-embedding-*"),
    "transcription": ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "whisper-*", "gpt-*-transcribe*"),
}
"""Task to the names that clients of OpenAI and Anthropic ask for: those that are listed, and patterns."""


class DefaultModel(msgspec.Struct, frozen=True):
    """A backend's model of a task, and what this machine lacks to serve it."""

    config: ModelConfig
    problems: Sequence[str]


def known_defaults() -> list[DefaultModel]:
    """The default model of each task: of the first backend, by name, that can serve its own here, else of the first
    that has one."""
    found: list[DefaultModel] = []
    for task in TASKS:
        models = [_default(backend, task) for backend in installed_backends() if backend.does(task)]
        known = [model for model in models if model is not None]
        found += [*(model for model in known if not model.problems), *known][:1]
    return found


def default_models() -> tuple[ModelConfig, ...]:
    """What is served when the configuration names no model: each task's default, as far as this machine can serve it.
    Where it can serve none, all of them: opening them says what is missing."""
    known = known_defaults()
    return tuple(model.config for model in known if not model.problems) or tuple(model.config for model in known)


def served_models(config: Config) -> tuple[ModelConfig, ...]:
    """The models to serve: the configured ones, or the default ones where there are none.

    A configured model may be a default one, by its name or `path`, unless a file or directory is called so. What its
    table does not say is as the backend has it; under another backend it has its own options. Raises ConfigError where
    it is not installed.
    """
    if not config.models:
        return default_models()
    known = known_defaults()
    return tuple(_with_defaults(model, known) for model in config.models)


def find_default(name: str, known: Sequence[DefaultModel] | None = None) -> ModelConfig | None:
    """The default model of that name, unless a file or directory is called so. Raises ConfigError where it is not
    installed."""
    if find_local(name) is not None:
        return None
    for model in known_defaults() if known is None else known:
        if model.config.name == name:
            if model.problems:
                raise ConfigError(f"the model {name} needs {'; '.join(model.problems)}")
            return model.config
    return None


def _default(backend: InstalledBackend, task: Task) -> DefaultModel | None:
    model = backend.default_for(task)
    if model is None:
        return None
    model = msgspec.structs.replace(model, backend=model.backend or backend.name)
    directory = None if model.path is None else Path(model.path)
    return DefaultModel(model, backend.problems(model, ModelFiles(task=task, directory=directory)))


def _with_defaults(model: ModelConfig, known: Sequence[DefaultModel]) -> ModelConfig:
    # One of a revision is the hub's.
    default = find_default(model.source, known) if model.revision is None else None
    if default is None:
        return model
    found = msgspec.structs.replace(model, path=default.path)
    if model.backend not in (None, default.backend):
        return found
    own = {name: value for name, value in msgspec.structs.asdict(model.sampling).items() if value is not None}
    sampling = msgspec.structs.replace(default.sampling, **own)
    engine = {**default.engine, **model.engine}
    return msgspec.structs.replace(found, backend=default.backend, sampling=sampling, engine=engine)


def log_defaults(models: Sequence[ModelConfig]) -> None:
    """Say which default models are served, and how to have those that are not."""
    names = ", ".join(f"{model.name} ({model.task})" for model in models) or "none"
    log.info("no models are configured: serving the default ones, %s; [[models]] in ark.toml names others", names)
    served = {model.name for model in models}
    for default in known_defaults():
        if default.config.name not in served:
            log.info("no default %s model is served: it needs %s", default.config.task, "; ".join(default.problems))


def all_aliases(models: Sequence[ModelConfig], configured: Mapping[str, str] | None) -> dict[str, str]:
    """Alias to served name: each model's own, the table's, or OpenAI's names where there is no table."""
    aliases = {alias: model.name for model in models for alias in model.aliases}
    if configured is not None:
        aliases.update(configured)
        return aliases
    served = {model.name for model in models}
    for task, names in DEFAULT_ALIASES.items():
        first = next((model.name for model in models if model.task == task), None)
        for alias in names:
            if first is not None and alias not in served:
                aliases.setdefault(alias, first)
    return aliases
