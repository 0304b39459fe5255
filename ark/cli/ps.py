"""``ark ps``: what a running server has loaded, and what it does."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator
from typing import Any

from ark.cli.client import Client, CommandError, add_server_arguments, require
from ark.cli.usage import Help

_DESCRIPTION = """\
Show the models of a running server with their running and waiting requests and the memory of their KV cache, then the
sessions and the memory of the process. The figures are those of GET /metrics.
"""
_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def add(commands: Any) -> None:
    parser = commands.add_parser(
        "ps", help="show what a running server does", description=_DESCRIPTION, formatter_class=Help
    )
    add_server_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    require("rich")
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    with Client(args.url, args.key) as client:
        listed = client.get("/models")["data"]
        found = Metrics(client.text("/metrics"))
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for column in ("model", "task", "state"):
        table.add_column(column, overflow="fold")
    for column in ("running", "waiting", "KV cache", "of its room"):
        table.add_column(column, justify="right")
    for model in listed:
        details = model.get("ark") or {}
        if details.get("alias_of"):
            continue
        name = model["id"]
        running, waiting = (found.of(f"num_requests_{what}", name) for what in ("running", "waiting"))
        kv, share = found.of("kv_cache_bytes", name), found.of("kv_cache_usage_perc", name)
        cells = (
            *(name, details.get("task", ""), details.get("state", "")),
            *("" if count is None else f"{count:.0f}" for count in (running, waiting)),
            "" if not kv else size(kv),
            "" if not kv or share is None else f"{share:.0%}",
        )
        # As text, for a name may have what rich takes for markup.
        table.add_row(*(Text(cell) for cell in cells))
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print("\n" + ", ".join(_process(found)), style="dim")
    return 0


def _process(found: Metrics) -> Iterator[str]:
    sessions, memory = found.of("sessions"), found.of("process_resident_memory_bytes")
    begun = found.of("process_start_time_seconds")
    if sessions is not None:
        yield f"{sessions:.0f} sessions with transcripts of {size(found.of('session_bytes') or 0)}"
    if memory is not None:
        yield f"{size(memory)} of memory"
    if begun is not None:
        minutes = max(0, int(time.time() - begun)) // 60
        yield f"up for {minutes // 1440} d {minutes // 60 % 24} h {minutes % 60} min"


class Metrics:
    """The samples of a reply in Prometheus' text format. Raises CommandError where it is none."""

    def __init__(self, text: str) -> None:
        self._samples: dict[tuple[str, str | None], float] = {}
        for line in text.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            match = _SAMPLE.fullmatch(line)
            try:
                value = float(match["value"]) if match is not None else None
            except ValueError:
                value = None
            if match is None or value is None:
                raise CommandError("the server's /metrics are not in Prometheus' text format")
            labels = dict(_LABEL.findall(match["labels"] or ""))
            name = labels.get("model_name")
            if name is not None:
                name = name.replace('\\"', '"').replace("\\\\", "\\")
            self._samples[match["name"].removeprefix("ark:"), name] = value

    def of(self, name: str, model: str | None = None) -> float | None:
        """A value, of a model where there is one for each; None where the server tells none."""
        return self._samples.get((name, model))


def size(count: float) -> str:
    """Bytes as one reads them."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
