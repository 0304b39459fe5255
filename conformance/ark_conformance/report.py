"""Print results for people, and write them as JSON and JUnit XML for programs."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from xml.etree import ElementTree as ET

import openai
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ark_conformance.expectations import Profile
from ark_conformance.replay import Result, printable
from ark_conformance.suite import Tally, by_area
from ark_conformance.target import Target


def print_results(console: Console, results: Sequence[Result]) -> None:
    """Print failures in full, then a table by area, then the reasons for skips."""
    for result in results:
        if result.status == "failed":
            console.rule(f"[red]{escape(result.name)}")
            console.print(result.explanation, markup=False, highlight=False)
    for result in results:
        if result.measured:
            _print_measured(console, result)
    table = Table("area", *(("passed", "failed", "skipped", "requests", "seconds")), box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for area, tally in by_area(results).items():
        table.add_row(area, *_cells(tally), style="red" if tally.failed else None)
    total = Tally.of(results)
    table.add_section()
    table.add_row("all", *_cells(total), style="bold")
    console.print()
    console.print(table)
    for reason, count in sorted(total.reasons.items(), key=lambda item: -item[1]):
        console.print(f"{count:5} skipped: {reason}", markup=False, highlight=False)


def as_json(results: Sequence[Result], target: Target, profile: Profile) -> dict[str, Any]:
    """All results as JSON values."""
    total = Tally.of(results)
    return {
        "server": target.server.base_url,
        "profile": profile,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "models": {name: getattr(target, name) for name in ("chat", "embedding", "transcription", "rerank")},
        "passed": total.passed,
        "failed": total.failed,
        "skipped": total.skipped,
        "results": [asdict(result) | {"name": result.name} for result in results],
    }


def as_junit(results: Sequence[Result], profile: Profile) -> bytes:
    """All results as JUnit XML, with a suite for each area."""
    root = ET.Element("testsuites", name=f"ark-conformance {profile}")
    for area, tally in by_area(results).items():
        suite = ET.SubElement(root, "testsuite", name=area)
        suite.attrib |= {
            "tests": str(tally.passed + tally.failed + tally.skipped),
            "failures": str(tally.failed),
            "skipped": str(tally.skipped),
            "time": f"{tally.seconds:.3f}",
        }
        for result in results:
            if result.area != area:
                continue
            case = ET.SubElement(suite, "testcase", classname=area, name=result.name, time=f"{result.seconds:.3f}")
            if result.status == "failed":
                failure = ET.SubElement(case, "failure", message=_xml("; ".join(result.problems)))
                failure.text = _xml(result.explanation)
            elif result.status == "skipped":
                ET.SubElement(case, "skipped", message=_xml(result.reason))
    data: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return data


def versions() -> dict[str, str]:
    """The versions that the calls were made with."""
    try:
        own = version("ark-server")
    except PackageNotFoundError:
        own = "unknown"
    return {"ark-conformance": own, "openai": openai.__version__, "python": platform.python_version()}


def _print_measured(console: Console, result: Result) -> None:
    """What a call measured, a row for each time that its step was made."""
    names = list(dict.fromkeys(name for row in result.measured for name in row))
    table = Table("", *names, box=None, pad_edge=False, title=escape(result.name), title_justify="left")
    for column in table.columns:
        column.justify = "right"
    for number, row in enumerate(result.measured, 1):
        table.add_row(str(number), *(f"{row[name]:g}" if name in row else "-" for name in names))
    console.print()
    console.print(table)


def _cells(tally: Tally) -> list[str]:
    counts = [str(count) if count else "-" for count in (tally.passed, tally.failed, tally.skipped, tally.requests)]
    return [*counts, f"{tally.seconds:.1f}"]


def _xml(text: str) -> str:
    """Escape the characters that XML cannot contain."""
    return printable(text).translate({0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"})
