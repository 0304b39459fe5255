"""What the README says about the code is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from ark.schemas.chat import ChatRequest

pytest.importorskip("ark_backends")

SCRIPT = Path(__file__).parent.parent / "scripts" / "parameter_table.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("parameter_table", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_parameters_is_up_to_date(script: ModuleType) -> None:
    readme = script.README.read_text()
    assert script.BEGIN in readme
    assert readme == script.renewed(readme), "run python scripts/parameter_table.py"


def test_every_field_has_its_line(script: ModuleType) -> None:
    assert list(script.MEANING) == [field.name for field in msgspec.structs.fields(ChatRequest)]


def test_a_stale_table_is_seen(script: ModuleType) -> None:
    readme = script.README.read_text()
    assert script.renewed(readme.replace("| `seed` |", "| `sead` |")) == readme
