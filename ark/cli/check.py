"""``ark check``: what would run here, and what is missing."""

from __future__ import annotations

import argparse
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from ark import __version__
from ark.cli import security
from ark.cli.arguments import add_model_arguments, chosen_config
from ark.cli.listening import add_listening_arguments
from ark.cli.usage import Help
from ark.config import ConfigError, ModelConfig
from ark.engines import hub, machine
from ark.engines.loading import InstalledBackend, find_backend, installed_backends, read_files
from ark.engines.model_files import ModelFiles, find_local, kv_bytes
from ark.models.backend_selection import select_by_files
from ark.models.default_models import known_defaults, served_models

_DESCRIPTION = """\
Say what would run on this machine: each model's engine and device, the memory of its weights and its conversations,
and what is missing, with the command that installs it. Nothing is loaded. Of a model on the hub only the small files
that describe it are downloaded.

Without MODEL it checks the configuration, as 'ark serve' would. The status is 1 if a model cannot be served.

    ark check --security --host 0.0.0.0

With --security it looks at keys, addresses, pages, cookies and files instead, and says what is left open and what
closes it. The status is 1 if there is any such thing.
"""

MB = 1 << 20
_BY = "by the server or by "
SHOWN = ("anyio", "hypercorn", "msgspec", "torch", "transformers", "ctranslate2", "faster-whisper")


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "check",
        help="say what would run on this machine, and what is missing",
        description=_DESCRIPTION,
        formatter_class=Help,
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--security", action="store_true", help="say instead what an 'ark serve' with these arguments leaves open"
    )
    add_listening_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.security:
        return security.run(args)
    config = chosen_config(args)
    print(f"ark {__version__}, Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    print(f"installed: {', '.join(_versions())}")
    print(f"processor: {_processors()}, {machine.free_memory() // MB} MB of memory free")
    print(f"device:    {_device()}")
    names = [
        f"{backend.name} ({backend.extras})" if backend.extras else backend.name for backend in installed_backends()
    ]
    print(f"backends:  {', '.join(names) or 'none'}")
    found = [look(model) for model in served_models(config)]
    for finding in found:
        print(f"\n{finding.name} ({finding.task}, {finding.backend})")
        for line in finding.facts:
            print(f"  {line}")
        for line in finding.problems:
            print(f"  missing: {line}")
        print("  can be served" if not finding.problems else "  cannot be served yet")
    return 1 if any(finding.problems for finding in found) else 0


class Finding(msgspec.Struct, kw_only=True):
    """What is known of one model."""

    name: str
    task: str
    backend: str
    facts: list[str] = []
    problems: list[str] = []
    """What keeps it from being served, with what to do about it."""


def look(model: ModelConfig) -> Finding:
    """What there is of a model and of its backend."""
    finding = Finding(name=model.name, task=model.task, backend=model.backend or "")
    directory = _directory(model, finding)
    try:
        finding.backend = select_by_files(model, directory).name
        backend = find_backend(finding.backend, model.task)
    except LookupError as error:
        finding.problems.append(str(error))
        return finding
    files = ModelFiles(task=model.task, directory=directory)
    try:
        if directory is not None:
            files = _measure(finding, model, backend, directory)
    except ConfigError as error:
        finding.problems.append(str(error))
    finding.problems += backend.problems(model, files)
    return finding


def _directory(model: ModelConfig, finding: Finding) -> Path | None:
    """Where the model's files are, as far as they are on this machine."""
    directory = find_local(model.source)
    if directory is not None:
        finding.facts.append(f"{'directory' if directory.is_dir() else 'file'}: {directory}")
        return directory
    if model.backend not in {None, *(backend.name for backend in installed_backends() if backend.detects)}:
        # A backend that looks at no files need not have a directory at all.
        return None
    if model.source.startswith(("/", ".", "~")) or hub.split(model.source)[0].count("/") > 1:
        _say_what_is_missing(model, finding)
        return None
    if not hub.installed():
        # The backend is missing too, and says so.
        return None
    try:
        found = hub.small_files(model.source, model.revision)
    except ConfigError as error:
        finding.problems.append(str(error))
        return None
    finding.facts.append(f"hub model: {model.source}, in {found}")
    return found


def _say_what_is_missing(model: ModelConfig, finding: Finding) -> None:
    """Of a model whose directory does not exist: that of a default model comes with the download."""
    if not any(model.path == known.config.path for known in known_defaults()):
        finding.problems.append(f"{model.source} does not exist")
        return
    size = find_backend(model.backend or "", model.task).download_bytes(model)
    finding.facts.append(f"weights: {size / MB:.0f} MB to download, {_BY}'ark pull'")


def _measure(finding: Finding, model: ModelConfig, backend: InstalledBackend, directory: Path) -> ModelFiles:
    """What the model's files say, as facts and problems too. Raises ConfigError."""
    files = read_files(model.source, model.revision)
    if files.task != model.task:
        finding.problems.append(f'the model does {files.task}: set task = "{files.task}"')
        return files
    method = f", {files.quantization} weights" if files.quantization else ""
    finding.facts += [f"model: {files.architecture}{method}", *files.facts]
    where = "on disk"
    if not files.weights_bytes and find_local(model.source) is None:
        files = msgspec.structs.replace(files, weights_bytes=backend.download_bytes(model))
        name = model.source if model.revision is None else f"{model.source}@{model.revision}"
        where = f"to download, {_BY}'ark pull {name}'"
    if files.weights_bytes:
        finding.facts.append(f"weights: {files.weights_bytes / MB:.0f} MB {where}")
    else:
        finding.problems.append(f"there are no weights in {directory}")
    context, each = model.context_length or files.context_length, kv_bytes(files.config)
    if context is not None and each is not None and model.task == "chat":
        finding.facts.append(
            f"context: {context} tokens, {context * each / MB:.0f} MB of KV at 16 bits when it is full"
        )
    return files


def _versions() -> list[str]:
    found = []
    for name in SHOWN:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found


def _processors() -> str:
    there, usable = os.cpu_count() or 1, machine.processors()
    return f"{there} cores" if usable == there else f"{usable} of {there} cores"


def _device() -> str:
    if find_spec("torch") is None:
        return "torch is not installed: no model of its engines runs"
    import torch  # noqa: PLC0415

    if torch.version.cuda is None:
        return "CPU: this torch was built without CUDA"
    if not torch.cuda.is_available():
        return "CPU: torch finds no GPU"
    names = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        names.append(f"{torch.cuda.get_device_name(index)}, {free // MB} of {total // MB} MB free")
    return "; ".join(names)
