"""What the README says about the code is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

pytest.importorskip("ark_backends")

SCRIPT = Path(__file__).parent.parent / "tools" / "docs" / "parameter_table.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parameter_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_of_parameters_are_up_to_date(script: ModuleType) -> None:
    readme = script.README.read_text()
    for table in script.TABLES:
        assert table.begin in readme
        assert table.end in readme
    assert readme == script.renewed(readme), "run python tools/docs/parameter_table.py"


def test_every_field_has_its_line(script: ModuleType) -> None:
    for table in script.TABLES:
        assert list(table.meaning) == [field.name for field in msgspec.structs.fields(table.kind)]


@pytest.mark.parametrize("parameter", ["seed", "ark_sparse"])
def test_a_stale_table_is_seen(script: ModuleType, parameter: str) -> None:
    readme = script.README.read_text()
    assert f"| `{parameter}` |" in readme
    assert script.renewed(readme.replace(f"| `{parameter}` |", "| `gone` |")) == readme
