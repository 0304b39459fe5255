"""What the README says is so: its programs run, its routes exist, and its figure is the measured one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from fixture_models import only_default
from running import serve

from ark.api.routes import ROUTES
from ark.app import create_app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short() -> None:
    assert len(README.encode()) <= 8192


def test_its_programs_run(capsys: pytest.CaptureFixture[str]) -> None:
    client, session = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert "http://127.0.0.1:8000" in client
    names: dict[str, Any] = {}
    with serve(create_app(only_default("chat"))) as server:
        exec(client.replace("http://127.0.0.1:8000", server.url), names)
        assert "Nile" in capsys.readouterr().out
        printed: list[Any] = []
        exec(session, names | {"print": lambda *values: printed.append(values)})
        names["client"].close()
    first, second, third = (cached for _, cached in printed)
    # The first turn shares its beginning with the other conversation: the template's own system message.
    assert first < 32 < second < third


def test_it_lists_every_route() -> None:
    _, _, table = README.partition("## What it speaks")
    listed = re.findall(r"`(GET|POST|DELETE) (\S+)`", table.partition("[Routes and parameters]")[0])
    assert len(listed) == len(set(listed))
    served = {(method, path) for path, methods in ROUTES.items() for method in methods}
    assert set(listed) == served | {("GET", "/")}


def test_its_figure_is_the_measured_one() -> None:
    said = re.search(r"comes (\d+) times sooner: after (\S+ s) instead of (\S+ s)", README)
    assert said is not None
    performance = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert f"first token comes {said[1]} times sooner" in performance
    last = re.search(r"^\| 12 \| 36 \|.*$", performance, re.MULTILINE)
    assert last is not None
    cells = [cell.strip() for cell in last[0].split("|")]
    # Stateless, then with a session.
    assert (cells[6], cells[4]) == (said[2], said[3])
