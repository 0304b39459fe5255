"""Which backend serves a model where the configuration does not say."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from ark.config import ModelConfig, ServerConfig
from ark.models.backend_selection import select_backend
from ark.models.served import ServedChat

EXL2 = {"architectures": ["LlamaForCausalLM"], "quantization_config": {"quant_method": "exl2"}}


def model(path: Path, config: Any, **more: Any) -> ModelConfig:
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return ModelConfig(name="small", path=str(path), **more)


@pytest.mark.parametrize(
    ("config", "backend", "reason"),
    [
        (EXL2, "exllamav2", "for EXL2 weights"),
        ({"quantization_config": {"quant_method": "exl3"}}, "exllamav3", "for EXL3 weights"),
        ({"quantization_config": {"quant_method": "gptq"}}, "exllamav2", "for GPTQ weights"),
        ({"quantization_config": {"quant_method": "awq"}}, "torch_chat", "for AWQ weights"),
        ({"architectures": ["LlamaForCausalLM"]}, "torch_chat", "for plain weights"),
        ({"quantization_config": 4}, "torch_chat", "for plain weights"),
        # What is wrong with such a file the backend says, which needs more of it.
        ("{", "torch_chat", "for plain weights"),
    ],
)
def test_by_the_weights(config: Any, backend: str, reason: str, tmp_path: Path) -> None:
    selected = select_backend(model(tmp_path, config))
    assert (selected.name, selected.reason) == (backend, reason)


def test_the_configuration_comes_first(tmp_path: Path) -> None:
    selected = select_backend(model(tmp_path, EXL2, backend="torch_chat"))
    assert (selected.name, selected.reason) == ("torch_chat", "as configured")


@pytest.mark.parametrize(("task", "backend"), [("embedding", "bge"), ("transcription", "whisper")])
def test_other_tasks_have_one_backend_each(task: Any, backend: str, tmp_path: Path) -> None:
    assert select_backend(model(tmp_path, EXL2, task=task)).name == backend


def test_a_directory_that_is_not_there() -> None:
    assert select_backend(ModelConfig(name="/no/such/directory")).name == "torch_chat"


def test_a_hub_model_that_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--org--small" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(json.dumps(EXL2))
    (tmp_path / "models--org--small" / "refs").mkdir()
    (tmp_path / "models--org--small" / "refs" / "main").write_text("abc")
    assert select_backend(ModelConfig(name="org/small")).name == "exllamav2"
    assert select_backend(ModelConfig(name="org/other")).name == "torch_chat"


@pytest.mark.anyio
async def test_it_is_said_in_one_line_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    served = ServedChat(model(tmp_path, EXL2), (), ServerConfig())
    with caplog.at_level(logging.INFO, "ark.registry"):
        await served.open()
    # Without weights, and mostly without a GPU, it goes no further.
    assert served.state == "failed"
    assert caplog.records[0].message == "model small: chat on exllamav2, for EXL2 weights"
    assert served.backend_name == "exllamav2"
