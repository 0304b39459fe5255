"""``ark pull``: a model from the hub, before a server needs it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ark.cli.arguments import find_model
from ark.cli.client import CommandError, require
from ark.cli.usage import Help
from ark.config import ModelConfig, load_config
from ark.engines.loading import find_backend, read_files
from ark.models.backend_selection import select_backend
from ark.models.default_models import served_models

_DESCRIPTION = """\
Download models from the hub, each as ORG/NAME or ORG/NAME@REVISION, or without arguments those of the configuration.
Only the files that the model's backend reads are downloaded, and only if they are not here yet. An interrupted download
continues where it stopped. Of the models that come with ARK, it prints where they are.

huggingface_hub reads these variables: HF_HOME for the directory, HF_TOKEN for gated models, HF_HUB_OFFLINE to stay
offline.
"""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "pull",
        help="download models from the hub",
        description=_DESCRIPTION,
        formatter_class=Help,
    )
    parser.add_argument("models", metavar="MODEL", nargs="*", help="names on the hub, as ORG/NAME or ORG/NAME@REVISION")
    parser.add_argument(
        "--config", metavar="FILE", help="the configuration; otherwise $ARK_CONFIG, or ark.toml in this directory"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    require("huggingface_hub", "torch")
    models: list[ModelConfig] = [find_model(text) for text in args.models]
    if not models and (config := load_config(args.config)).models:
        models = list(served_models(config))
    if not models:
        raise CommandError("there is nothing to download: name a model, for the configuration has none")
    for model in models:
        try:
            backend = find_backend(select_backend(model).name, model.task)
        except LookupError as error:
            raise CommandError(str(error)) from error
        directory = backend.fetch(model)
        if directory is None:
            raise CommandError(f"the backend {backend.name} of {model.name} downloads nothing")
        files = read_files(directory)
        if not files.weights_bytes:
            raise CommandError(f"{model.source} has no weights that ARK reads: {directory}")
        print(f"{model.name}: {files.task}, {files.weights_bytes / (1 << 20):.0f} MB of weights", file=sys.stderr)
        print(directory)
    return 0
