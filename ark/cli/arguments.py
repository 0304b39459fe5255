"""Models named on the command line instead of in a configuration."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from ark.cli.client import CommandError
from ark.config import EMBEDDED, Config, ModelConfig, embedded_model, load_config
from ark.engines import hub
from ark.engines.model_files import Identity, identify


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """``MODEL ...`` and ``--config``."""
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help="directories, names on the hub (ORG/NAME or ORG/NAME@REVISION) or embedded models "
        f"({', '.join(EMBEDDED)}), instead of the configuration's models",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="the configuration; otherwise $ARK_CONFIG, or ark.toml in this directory"
    )


def chosen_config(args: argparse.Namespace) -> Config:
    """The configuration, with the models of the command line in place of its own. Raises ConfigError, CommandError."""
    config = load_config(args.config)
    if not args.models:
        return config
    # The file's aliases point at the file's models.
    return msgspec.structs.replace(config, models=tuple(named(text) for text in args.models), aliases=None)


def named(text: str) -> ModelConfig:
    """The model that a directory, a hub id or an embedded model's name stands for; its task is seen from its files.
    Raises CommandError, ConfigError."""
    if (embedded := embedded_model(text)) is not None:
        return embedded
    directory = Path(text).expanduser()
    if directory.is_dir():
        name = directory.resolve().name
        return _configured(name, str(directory), None, identify(directory))
    name, _, revision = text.partition("@")
    if directory.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise CommandError(f"the directory {text} does not exist")
    return _configured(name, name, revision or None, _from_hub(name, revision or None))


def _configured(name: str, path: str, revision: str | None, identity: Identity) -> ModelConfig:
    return ModelConfig(name=name, path=path, revision=revision, task=identity.task)


def _from_hub(repo: str, revision: str | None) -> Identity:
    """What a hub model is, by its small files. Raises CommandError, ConfigError."""
    if not hub.installed():
        raise CommandError(f"{repo} is no directory here, and hub models need: pip install 'ark-server[torch]'")
    return identify(hub.small_files(repo, revision))
