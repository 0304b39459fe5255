"""The pytest plugin, used from a test file and call files in a folder of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flawed_server import KEY, app, serve_plain

TESTS = """
import pytest
from ark_conformance.clients import Server
from ark_conformance.target import Target


@pytest.fixture(scope="module")
def target():
    return Target.ask(Server(base_url="{url}/v1", api_key="{key}"))


@pytest.mark.conformance({mark})
def test_conformance(conformance_call, target):
    conformance_call(target)
"""
CALLS = """
area = "mine"
about = "Mine."
[[case]]
name = "tea"
about = "The server makes tea."
step = [{ call = "http", with = { path = "/models" }, expect = [{ at = "status", equals = 418 }] }]
"""
PLUGIN = "ark_conformance.plugin"
"""What its wheel registers, as tests/test_packaging.py sees."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_plain(app) as url:
        yield url


def run(url: str, folder: Path, mark: str) -> str:
    """The output of pytest, run from another folder."""
    folder.mkdir()
    (folder / "test_mine.py").write_text(TESTS.format(url=url, key=KEY, mark=mark), encoding="utf-8")
    (folder / "mine.toml").write_text(CALLS, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", PLUGIN, str(folder)]
    # The plugins of others take seconds to import.
    alone = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        command, cwd=folder.parent, env=alone, capture_output=True, text=True, timeout=120, check=False
    ).stdout


def test_the_calls_that_come_with_it(url: str, tmp_path: Path) -> None:
    shown = run(f"{url}/none", tmp_path / "a", 'profile="openai", only=["streaming/done-*", "audio/json"]')
    assert "2 passed, 4 skipped" in shown
    assert "there is no transcription model" in shown
    shown = run(f"{url}/no-done", tmp_path / "b", 'profile="openai", only=["streaming/done-*"]')
    assert "2 failed" in shown
    assert "[DONE] is the last event" in shown
    assert "chat.completion.chunk" in shown


def test_calls_of_ones_own_beside_the_test_file(url: str, tmp_path: Path) -> None:
    shown = run(f"{url}/none", tmp_path / "a", 'profile="openai", files=["mine.toml"]')
    assert "mine/tea-sync" in shown
    assert "status is 200, not 418" in shown


@pytest.mark.parametrize(
    ("mark", "says"),
    [
        ('profile="openai", files=["none.toml"]', "none.toml: cannot be read"),
        ('profile="openai", only=["nonsense"]', "no call of the profile openai is chosen by nonsense"),
        ('profile="other"', "the profile 'other', none of openai, ark, document"),
        ("", "the profile None, none of"),
    ],
)
def test_a_mark_that_means_nothing(url: str, tmp_path: Path, mark: str, says: str) -> None:
    shown = run(f"{url}/none", tmp_path / "a", mark)
    assert says in shown
    assert "passed" not in shown
