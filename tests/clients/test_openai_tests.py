"""The tests of the package openai itself, for what ARK keeps: `make test-clients` fetches them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixture_models import only
from running import Running, serve

from ark.app import create_app

pytestmark = pytest.mark.npm

PLUGIN = Path(__file__).parent / "python"
ENVIRONMENT = Path(__file__).parents[2] / ".venv" / "openai-tests"
TESTS = [
    "test_responses.py",
    "responses",
    "test_conversations.py",
    "conversations",
    "chat",
]
LEAST = 485
"""Of them so many have to pass: with fewer, something was not run."""


@pytest.fixture(scope="module")
def open_server() -> Iterator[Running]:
    """Without keys: those tests have one of their own."""
    with serve(create_app(only("chat")), 120) as running:
        yield running


def test_openais_own_tests(open_server: Running) -> None:
    source = next(ENVIRONMENT.glob("openai-*/tests")).parent
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        "TEST_API_BASE_URL": f"{open_server.url}/v1",
        "PYTHONPATH": str(PLUGIN),
    }
    command = [ENVIRONMENT / "bin" / "python", "-m", "pytest", "-q", "-p", "openai_tests", "-p", "no:cacheprovider"]
    # Its own options run the tests in several processes.
    command += ["-o", "addopts=", "--tb=short", *(f"tests/api_resources/{name}" for name in TESTS)]
    done = subprocess.run(command, cwd=source, env=variables, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = int(done.stdout.splitlines()[-1].partition(" passed")[0].rpartition(" ")[2])
    assert passed >= LEAST, done.stdout
