"""What is known of a GGUF file before it is opened."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from compiled_runner import a_model
from gguf_files import save_gguf

from ark.cli import check
from ark.cli.arguments import find_model
from ark.config import ConfigError, ModelConfig
from ark.models.backend_selection import select_backend


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.Q4_1.gguf"
    save_gguf(path, a_model("Qwen3"), numbers="Q4_1")
    return path


def test_the_command_line_takes_a_file(file: Path) -> None:
    model = find_model(str(file))
    assert (model.name, model.path, model.task) == ("small.Q4_1", str(file), "chat")
    selected = select_backend(model)
    assert (selected.name, selected.reason) == ("torch_chat", "for GGUF weights")


def test_check_says_what_it_is(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.run(argparse.Namespace(models=[str(file)], config=None, security=False)) == 0
    out = capsys.readouterr().out
    assert f"file: {file}" in out
    assert "model: Qwen3ForCausalLM, gguf weights" in out
    assert "Q4_1 100 %" in out
    assert "Q4_1 is rounded to them once more" in out
    assert "context: 8192 tokens, 8 MB of KV" in out
    assert "can be served" in out


@pytest.mark.parametrize("cut", [3, 4, 20, 100, 5000, -100])
def test_a_cut_file_is_refused(file: Path, cut: int) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:cut])
    with pytest.raises(ConfigError, match=r"GGUF|no config"):
        find_model(str(file))
    assert check.look(ModelConfig(name="m", path=str(file))).problems
