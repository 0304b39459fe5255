"""Every example, run as a program against a real server with small models."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("requests")
pytest.importorskip("tiktoken")
pytest.importorskip("faster_whisper")

from fixture_models import with_tiny_chat
from running import Running, serve
from tiny_m3 import save_tiny_m3

from ark.app import create_app
from ark.config import Config, ModelConfig

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
RECORDING = Path(__file__).parent.parent / "data" / "audio" / "talk.wav"
ID = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"

PROGRAMS = {
    "streaming": r".+\n\d+ tokens\n",
    "json_schema": r"'.*' is \d+ and speaks .+\.\nrefused: .*at properties\.even.*\n",
    "native_tools": r"(?s).*get_weather\(\{'city': .*'sunny'\}\n.+",
    "prompt_tools": r"(?s).+\n",
    "simplified_requests": r'(?s).+\n\{"prompt_tokens":\d+,.*\}\n',
    "session_openai": rf"(?s).*\[({ID}); created; .*\[\1; continued; [1-9]\d* prompt tokens cached\]\n",
    "session_requests": rf"(?s).*\[({ID}); created\].*\[\1; continued\]\nark_session_id=\1\n",
    "similarity": r"(?s).*384 dimensions, \d+ tokens\n",
    # The best answer has other words than the question.
    "semantic_search": r"What happens .*\n0\.\d\d \S+\.md: .*(leaves|disconnect|ancel).*\n(0\.\d\d \S+\.md: .+\n){2}",
    "transcribe": r"He might even have been made amiable himself\. .+\n",
    "transcribe_stream": r"He might even have been made amiable himself\. .+\n\d+ tokens\n",
    "transcribe_words": r"(?s) +0\.\d\d - +[23]\.\d\d +He might even have .+ himself\.\n.*even\n.*english, 7\.68 s\n",
    "transcribe_subtitles": r"talk\.srt\ntalk\.vtt\n",
    "session_stateful": rf"(?s).*\[({ID}); created;.*\[\1; continued;.*\[\1; continued; \d\d+ prompt tokens.*",
}
"""A pattern of what each program prints, whatever the model says."""


HYBRID = r"How often .*\n(-?\d\.\d{3} = -?\d\.\d{3} by meaning \+ 0\.3 \* \d+\.\d{3} by words: .+\n){4}"

LOADING = 300.0
"""Seconds: the machine may be busy."""


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serve(create_app(Config(models=with_tiny_chat())), LOADING) as running:
        yield running


@pytest.mark.parametrize("name", PROGRAMS)
def test_example(server: Running, name: str, tmp_path: Path) -> None:
    recording = []
    if name.startswith("transcribe"):
        # What is written stands beside what is read.
        recording = [shutil.copy(RECORDING, tmp_path)]
    assert re.fullmatch(PROGRAMS[name], output := run(server, name, *recording)), output
    if name == "transcribe_subtitles":
        assert (tmp_path / "talk.srt").read_text().startswith("1\n00:00:00,")
        assert (tmp_path / "talk.vtt").read_text().startswith("WEBVTT\n\n00:00")


def test_hybrid_search(tmp_path: Path) -> None:
    """It needs the vectors that only M3 has."""
    save_tiny_m3(tmp_path)
    model = ModelConfig(name="BAAI/bge-m3", task="embedding", path=str(tmp_path))
    with serve(create_app(Config(models=(model,))), LOADING) as m3:
        assert re.fullmatch(HYBRID, output := run(m3, "hybrid_search")), output


def run(server: Running, name: str, *arguments: str) -> str:
    """What the program writes."""
    environment = os.environ | {"ARK_URL": f"{server.url}/v1", "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run() -> None:
    # The backends are served by many other tests, and what mounts ARK by one of its own.
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        *PROGRAMS,
        *(path.stem for path in EXAMPLES.glob("mount_*.py")),
        "hybrid_search",
        "echo_backend",
        "hash_embeddings",
    }
