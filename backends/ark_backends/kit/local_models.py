"""What ARK's own backends say of a model before it is opened. This module is light: it imports no engine."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from ark.config import ModelConfig
from ark.engines import hub, machine
from ark.engines.model_files import WEIGHTS, ModelFiles

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
    def fetch(cls, model: ModelConfig) -> Path:
        from ark_backends.kit.weights import files_of, resolve  # noqa: PLC0415 - needs the hub's client

        return resolve(model.source, model.revision, also=files_of(model.task))

    @classmethod
    def download_bytes(cls, model: ModelConfig) -> int:
        from ark_backends.kit.weights import files_of, wanted  # noqa: PLC0415 - needs the hub's client

        sizes = hub.sizes(model.source, model.revision)
        names = wanted(list(sizes), files_of(model.task))
        return sum(sizes[name] for name in names if any(Path(name).match(pattern) for pattern in WEIGHTS))
