"""Models named on the command line instead of in a configuration."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import msgspec

from ark.choice import SMALL_FILES
from ark.commands.client import CommandError
from ark.config import Config, ModelConfig, load_config
from ark.identify import Identity, identify


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """``MODEL ...`` and ``--config``."""
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help="directories, or names on the hub (ORG/NAME or ORG/NAME@REVISION), instead of the configuration's models",
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
    """The model that a directory or hub id stands for; its task is seen from its files. Raises CommandError."""
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
    """What a hub model is, by its small files, which are downloaded if they are not here yet. Raises CommandError."""
    if find_spec("huggingface_hub") is None:
        raise CommandError(f"{repo} is no directory here, and hub models need: pip install 'ark-server[torch]'")
    from huggingface_hub import snapshot_download  # noqa: PLC0415
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        directory = snapshot_download(repo, revision=revision, allow_patterns=list(SMALL_FILES))
    except HFValidationError as error:
        raise CommandError(f"{repo} is neither a directory nor a name on the hub") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CommandError(f"{repo} is no directory here, and cannot be had from the hub: {_line(error)}") from error
    return identify(Path(directory))


def _line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
