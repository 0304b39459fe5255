"""What docs/limits.md says of the configuration is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

pytest.importorskip("ark_backends")
pytest.importorskip("torch")

SCRIPT = Path(__file__).parent.parent / "scripts" / "limits_table.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("limits_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(script: ModuleType) -> None:
    assert script.PAGE.read_text(encoding="utf-8") == script.page(), "run python scripts/limits_table.py"


def test_every_field_is_there_with_its_default_and_a_text(script: ModuleType) -> None:
    class Example(msgspec.Struct):
        """Stands for a table that has just got a field."""

        size: int = 2**21
        """Bytes; `a|b`.

        More."""
        on: bool = True
        """Whether."""

    assert script.rows(Example)[2:] == [
        "| `size` | `2097152` (2 MiB) | Bytes; `a\\|b`. |",
        "| `on` | `true` | Whether. |",
    ]
    for _, kind in script.TABLES:
        for field, row in zip(msgspec.structs.fields(kind), script.rows(kind)[2:], strict=True):
            assert row.startswith(f"| `{field.name}` | ")
            assert not row.endswith("|  |")
