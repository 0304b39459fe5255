"""The calls of OpenAI's profile in granian."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from other_servers import run_openais_profile


def test_they_pass(tmp_path: Path) -> None:
    run_openais_profile("granian", tmp_path)
