"""``ark check``: what would run here, and what is missing."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from ark import __version__
from ark.cli.arguments import add_model_arguments, chosen_config
from ark.cli.usage import Help
from ark.config import BACKENDS, ConfigError, ModelConfig, served_models
from ark.engines import hub, machine
from ark.engines.loading import load_backend
from ark.engines.model_files import QUANTIZED, WEIGHTS, Identity, identify, kv_bytes, read_json
from ark.models.backend_selection import choose_by

_DESCRIPTION = """\
Say what would run on this machine: the engine and the device of each model, the memory that its weights and its
conversations take, and what is missing with the command that installs it. Nothing is loaded, and of a model on the
hub only the small files are downloaded that say what it is.

Without MODEL it looks at the configuration, as 'ark serve' would. The status is 1 when a model cannot be served.
"""

EXTRAS: Mapping[str, tuple[str, Sequence[str]]] = {
    "torch_chat": ("torch", ("torch", "transformers", "tokenizers", "llguidance")),
    "bge": ("embeddings", ("torch", "transformers", "FlagEmbedding")),
    "whisper": ("transcription", ("faster_whisper", "ctranslate2")),
}
"""Backend to the extra that brings it, and the modules without which it does not run."""

MB = 1 << 20
SHOWN = ("anyio", "hypercorn", "msgspec", "torch", "transformers", "FlagEmbedding", "ctranslate2", "faster-whisper")


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "check",
        help="say what would run here, and what is missing",
        description=_DESCRIPTION,
        formatter_class=Help,
    )
    add_model_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    config = chosen_config(args)
    print(f"ark {__version__}, Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    print(f"installed: {', '.join(_versions())}")
    print(f"processor: {_processors()}, {machine.free_memory() // MB} MB of memory free")
    print(f"device:    {_device()}")
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
    """What there is of a model and of its engine."""
    finding = Finding(name=model.name, task=model.task, backend="")
    directory = _directory(model, finding)
    finding.backend = choose_by(model, directory).backend
    extra, modules = EXTRAS.get(finding.backend, ("", ()))
    absent = [module for module in modules if find_spec(module) is None]
    if absent:
        finding.problems.append(f"{', '.join(absent)}: pip install 'ark-server[{extra}]'")
    else:
        try:
            # An engine that is known by its modules is not imported: that takes seconds. Any other may say what this
            # machine lacks for it, and for this model.
            if not modules:
                backend: Any = load_backend(finding.backend, model.task)
                finding.problems += getattr(backend, "missing", tuple)()
                if directory is not None:
                    finding.problems += getattr(backend, "lacking", _nothing)(model, directory)
        except (LookupError, ConfigError) as error:
            finding.problems.append(str(error))
    if directory is not None:
        try:
            _measure(finding, model, identify(directory), directory)
        except ConfigError as error:
            finding.problems.append(str(error))
    return finding


def _nothing(model: ModelConfig, directory: Path) -> Sequence[str]:
    return ()


def _directory(model: ModelConfig, finding: Finding) -> Path | None:
    """Where the model's files are, as far as they are on this machine."""
    directory = Path(model.source).expanduser()
    if directory.is_dir():
        finding.facts.append(f"directory: {directory}")
        return directory
    if model.backend not in {None, *BACKENDS.values(), *QUANTIZED.values()}:
        # A backend of somebody else's need not have a directory at all.
        return None
    if directory.is_absolute() or model.source.startswith((".", "~")) or model.source.count("/") > 1:
        finding.problems.append(f"the directory {model.source} does not exist")
        return None
    if not hub.installed():
        # Its engine is missing too, and is said to be.
        return None
    try:
        found = hub.small_files(model.source, model.revision)
    except ConfigError as error:
        finding.problems.append(str(error))
        return None
    finding.facts.append(f"hub model: {model.source}, in {found}")
    return found


def _name(model: ModelConfig) -> str:
    """A hub model as the commands take it."""
    return model.source if model.revision is None else f"{model.source}@{model.revision}"


def _to_download(model: ModelConfig) -> int:
    """Bytes of the weights that a hub model has. Raises ConfigError where the hub cannot be asked."""
    from ark_backends.kit.weights import files_of, wanted  # noqa: PLC0415

    sizes = hub.sizes(model.source, model.revision)
    names = wanted(list(sizes), files_of(model.task))
    return sum(sizes[name] for name in names if any(Path(name).match(pattern) for pattern in WEIGHTS))


def _measure(finding: Finding, model: ModelConfig, identity: Identity, directory: Path) -> None:
    if identity.task != model.task:
        finding.problems.append(f'the model does {identity.task}: set task = "{identity.task}"')
        return
    method = f", {identity.quantization} weights" if identity.quantization else ""
    finding.facts.append(f"model: {identity.architecture}{method}")
    free = machine.free_memory()
    needed, where = identity.weights_bytes, "on disk"
    if not needed and not Path(model.source).expanduser().is_dir():
        needed, where = _to_download(model), f"to download, by the server or by 'ark pull {_name(model)}'"
    if needed:
        finding.facts.append(f"weights: {needed / MB:.0f} MB {where}")
    else:
        finding.problems.append(f"there are no weights in {directory}")
    if needed > free and finding.backend not in QUANTIZED.values():
        finding.problems.append(f"memory: the weights take {needed // MB} MB, and {free // MB} MB are free")
    context = model.context_length or identity.context_length
    if context is None or model.task != "chat":
        return
    each = kv_bytes(read_json(directory / "config.json") or {})
    if each is not None:
        finding.facts.append(
            f"context: {context} tokens, {context * each / MB:.0f} MB of KV at 16 bits when it is full"
        )


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
