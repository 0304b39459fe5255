"""Models named on the command line instead of in a configuration."""

from __future__ import annotations

import argparse
import re
import tomllib
from functools import cache
from importlib import resources

import msgspec

from ark.cli.client import CommandError
from ark.config import Config, ModelConfig
from ark.config_file import load_config
from ark.engines import hub
from ark.engines.loading import read_files
from ark.engines.model_files import find_local
from ark.models.default_models import find_default

_HUB = re.compile(r"(?:https?://)?(?:www\.)?(?:hf\.co|huggingface\.co)/")
"""What stands before a model's name where it is copied from the hub, or from a command of Ollama's."""


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """``MODEL ...`` and ``--config``."""
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help="directories, GGUF files, names on the hub (ORG/NAME, ORG/NAME@REVISION or ORG/NAME-GGUF:TYPE, also "
        "behind hf.co/), short names such as qwen3:0.6b, or default models, which 'ark check' lists; instead of the "
        "configuration's models",
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
    return msgspec.structs.replace(config, models=tuple(find_model(text) for text in args.models), aliases=None)


def find_model(text: str) -> ModelConfig:
    """The model of a directory, a hub id, a short name or a default model's name, with the task that its files show.
    Raises CommandError, ConfigError."""
    if (default := find_default(text)) is not None:
        return default
    directory = find_local(text)
    if directory is not None:
        whole = directory.resolve()
        # Without what tells the parts of a split one from each other.
        name = whole.name if whole.is_dir() else re.sub(r"-\d{5}-of-\d{5}$", "", whole.stem)
        return ModelConfig(name=name, path=str(directory), task=read_files(text).task)
    known = short_names().get(text.lower())
    name, _, revision = _HUB.sub("", known or text).partition("@")
    if name.startswith(("/", ".", "~")) or hub.split(name)[0].count("/") > 1:
        raise CommandError(f"{text} does not exist")
    if not hub.installed():
        raise CommandError(f"{name} is no directory here, and hub models need: pip install 'ark-server[torch]'")
    task = read_files(name, revision or None).task
    # By a short name it is served under that.
    return ModelConfig(name=text if known else name, path=name, revision=revision or None, task=task)


@cache
def short_names() -> dict[str, str]:
    """Where the hub has the models of `short_names.toml`."""
    return tomllib.loads(resources.files("ark.cli").joinpath("short_names.toml").read_text(encoding="utf-8"))
