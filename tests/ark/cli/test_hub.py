"""Models on a hub: what is downloaded of them, and what is said when they cannot be had."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixture_models import TINY_CHAT
from hub import Hub, hub

pytest.importorskip("huggingface_hub")

CHAT = {path.name: path.read_bytes() for path in TINY_CHAT.iterdir() if path.is_file()}
LARGE = bytes(24 << 20)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def models() -> Iterator[Hub]:
    others = {"pytorch_model.bin": b"the same again", "onnx/model.onnx": b"and again", "README.md": b"Read me."}
    repositories = {
        "org/chat": {"main": CHAT | others, "v1": CHAT},
        "org/large": {"main": CHAT | {"model.safetensors": LARGE}},
        "org/bare": {"main": {"config.json": CHAT["config.json"]}},
    }
    with hub(repositories) as found:
        yield found


@pytest.fixture
def run(models: Hub, tmp_path: Path) -> Run:
    """Runs a command that asks the hub, and keeps what it has in a directory of the test."""

    def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        own = {"HF_HOME": str(tmp_path / "hub"), **models.environment, **variables}
        return subprocess.run(
            [sys.executable, "-m", "ark", *command],
            env={name: value for name, value in os.environ.items() if not name.startswith("ARK_")} | own,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_pull_downloads_what_the_backend_reads_once(models: Hub, run: Run) -> None:
    done = run("pull", "org/chat")
    assert (done.returncode, done.stderr) == (0, "org/chat: chat, 4 MB of weights\n")
    directory = Path(done.stdout.strip())
    here = {path.name for path in directory.iterdir()}
    assert here >= {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}
    assert not here & {"pytorch_model.bin", "onnx", "README.md"}
    assert (directory / "model.safetensors").read_bytes() == CHAT["model.safetensors"]
    assert {name for name, _ in models.sent} == here
    models.sent.clear()
    assert run("pull", "org/chat").stdout == done.stdout
    assert models.sent == []
    # Another revision has a directory of its own, and the same files.
    other = run("pull", "org/chat@v1")
    assert Path(other.stdout.strip()).parent == directory.parent != directory
    assert models.sent == []


def test_a_connection_that_breaks_is_taken_up_where_it_broke(models: Hub, run: Run) -> None:
    models.break_off["model.safetensors"] = [15 << 20]
    done = run("pull", "org/large")
    assert done.returncode == 0, done.stderr
    first, second = [begin for name, begin in models.sent if name == "model.safetensors"]
    assert first == 0 < second
    assert (Path(done.stdout.strip()) / "model.safetensors").read_bytes() == LARGE


def test_without_the_hub_what_was_downloaded_will_do(models: Hub, run: Run) -> None:
    pulled = run("pull", "org/chat")
    away = {"HF_ENDPOINT": "http://127.0.0.1:1"}
    assert run("pull", "org/chat", **away).stdout == pulled.stdout
    assert run("pull", "org/chat", HF_HUB_OFFLINE="1").stdout == pulled.stdout
    absent = run("pull", "org/large", **away)
    assert absent.returncode == 1
    assert re.match(
        r"ark: 'org/large' is not a directory, and the hub cannot be reached to download it: .*refused", absent.stderr
    )


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("org/absent", "ark: 'org/absent' is not a directory, and not a model on the hub either, or a private one: "),
        ("org/chat@v9", "ark: the hub model 'org/chat' has no revision 'v9'"),
        ("org/bare", "ark: org/bare has no weights that ARK reads"),
    ],
)
def test_what_cannot_be_pulled(model: str, says: str, run: Run) -> None:
    done = run("pull", model)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(says)
    assert len(done.stderr.splitlines()) == 1


def test_check_measures_what_is_not_downloaded_yet(models: Hub, run: Run, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "ark.toml").write_text(
        '[[models]]\nname = "a"\npath = "org/chat@v1"\n[[models]]\nname = "org/bare"\n[[models]]\nname = "org/absent"\n'
    )
    done = run("check", "--config", str(tmp_path / "ark.toml"))
    assert (done.returncode, done.stderr) == (1, "")
    assert "weights: 4 MB to download, by the server or by 'ark pull org/chat@v1'" in done.stdout
    assert "missing: there are no weights in" in done.stdout
    assert "missing: 'org/absent' is not a directory, and not a model on the hub either" in done.stdout
    assert done.stdout.count("can be served") == 1
    assert {name for name, _ in models.sent} == {"config.json"}
