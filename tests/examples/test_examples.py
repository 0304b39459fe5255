"""Every example, run as a program against a real server with the embedded model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("requests")

from running import Running, serve

from ark.app import create_app
from ark.config import Config

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
ID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"

PROGRAMS = {
    "streaming": r".+\n\d+ tokens\n",
    "json_schema": r"'.*' is \d+ and speaks .+\.\nrefused: .*at properties\.even.*\n",
    "native_tools": r"(?s).*get_weather\(\{'city': .*'sunny'\}\n.+",
    "prompt_tools": r"(?s).+\n",
    "simplified_requests": r'(?s).+\n\{"prompt_tokens":\d+,.*\}\n',
    "session_openai": rf"(?s).*\[({ID}); created; .*\[\1; continued; [1-9]\d* prompt tokens were there already\]\n",
    "session_requests": rf"(?s).*\[({ID}); created\].*\[\1; continued\]\nark_session_id=\1\n",
    "session_stateful": rf"(?s).*\[({ID}); created;.*\[\1; continued;.*\[\1; continued; the model has \d\d+ tokens.*",
}
"""What each program prints, whatever the model says."""


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serve(create_app(Config())) as running:
        yield running


@pytest.mark.parametrize("name", PROGRAMS)
def test_example(server: Running, name: str) -> None:
    environment = os.environ | {"ARK_URL": f"{server.url}/v1", "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(PROGRAMS[name], done.stdout), done.stdout


def test_every_example_is_run() -> None:
    # The backends are served by many other tests.
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {*PROGRAMS, "echo_backend", "hash_embeddings"}
