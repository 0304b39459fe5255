"""The table of docs/conformance.md from results that ``ark-conformance --json`` wrote: one column for each file.

python conformance/peers/table.py ARK=ark.json llama.cpp=llama.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Results = list[dict[str, Any]]


def cell(results: Results) -> str:
    """``passed of run``; a dash where nothing ran."""
    run = [result for result in results if result["status"] != "skipped"]
    passed = sum(result["status"] == "passed" for result in run)
    return f"{passed} of {len(run)}" if run else "-"


def main() -> None:
    columns: dict[str, Results] = {}
    for argument in sys.argv[1:]:
        name, _, path = argument.partition("=")
        columns[name] = json.loads(Path(path).read_text(encoding="utf-8"))["results"]
    areas = sorted({result["area"] for results in columns.values() for result in results})
    print(f"| area | {' | '.join(columns)} |")
    print("|---|" + "---|" * len(columns))
    for area in areas:
        cells = [cell([one for one in results if one["area"] == area]) for results in columns.values()]
        print(f"| {area} | {' | '.join(cells)} |")
    print(f"| all | {' | '.join(cell(results) for results in columns.values())} |")
    for name, results in columns.items():
        failed = {result["id"]: result for result in reversed(results) if result["status"] == "failed"}
        print(f"\n{name}: {len(failed)} calls fail")
        for call, result in sorted(failed.items()):
            print(f"- `{call}`: {result['problems'][0].splitlines()[0][:160]}")


if __name__ == "__main__":
    main()
