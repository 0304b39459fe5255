"""Which backend serves a model where the configuration does not say: seen from the model's files."""

from __future__ import annotations

from pathlib import Path

import msgspec

from ark.config import ConfigError, ModelConfig
from ark.engines import hub
from ark.engines.model_files import QUANTIZED, quantization, read_json


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A backend, and why it is this one."""

    backend: str
    reason: str


def choose(model: ModelConfig) -> Choice:
    """The backend for a model. It may have to download the small files of one on the hub: call it in a worker thread.

    Whether this machine can run it the backend says, when it opens the model.
    """
    named = model.backend is not None or model.task != "chat"
    return choose_by(model, None if named else _files(model))


def choose_by(model: ModelConfig, directory: Path | None) -> Choice:
    """The backend for a model whose files are in a directory, as far as they are anywhere."""
    if model.backend is not None:
        return Choice(backend=model.backend, reason="as configured")
    if model.task != "chat":
        return Choice(backend=model.backend_name, reason=f"the one for models of the task {model.task}")
    try:
        method = None if directory is None else quantization(read_json(directory / "config.json") or {})
    except ConfigError:
        # The backend reads the file as well, and says what is wrong with it.
        method = None
    backend = QUANTIZED.get(method or "", model.backend_name)
    return Choice(backend=backend, reason=f"for {'plain' if method is None else method.upper()} weights")


def _files(model: ModelConfig) -> Path | None:
    """The directory with a model's files, of one on the hub only with its small ones; None where there is none."""
    directory = Path(model.source).expanduser()
    if directory.is_dir():
        return directory
    if not hub.installed():
        return None
    try:
        return hub.small_files(model.source, model.revision)
    except ConfigError:
        # The backend asks for them too, and says what is wrong.
        return None
