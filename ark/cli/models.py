"""``ark models``: what a server serves."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ark.cli.client import Client, add_server_arguments, require
from ark.cli.usage import Help

_DESCRIPTION = """\
List the models of a running server, with their tasks, states, aliases and lengths.
"""


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "models", help="list the models of a running server", description=_DESCRIPTION, formatter_class=Help
    )
    add_server_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the server's reply")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with Client(args.url, args.key) as client:
        answer = client.get("/models")
    if args.json:
        print(json.dumps(answer, indent=2))
        return 0
    require("rich")
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for column in ("model", "task", "state", "also called", "context", "sizes"):
        table.add_column(column, overflow="fold")
    for model in answer["data"]:
        details = model.get("ark") or {}
        if details.get("alias_of"):
            continue
        row = (
            model["id"],
            details.get("task", ""),
            details.get("state", ""),
            "\n".join(details.get("aliases", ())),
            str(details.get("context_length") or ""),
            ", ".join(str(size) for size in details.get("dimensions") or ()),
        )
        # As text, for a name may have what rich takes for markup.
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)
    return 0
