"""The models of the tests: the chat model that keeps its reasoning, and the real ones as they are served by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ark.config import Config, ModelConfig, SamplingConfig, Task
from ark.engines.loading import find_backend
from ark.models.default_models import default_models

TINY_CHAT = Path(__file__).parents[1] / "models" / "tiny-chat"
"""The directory of the model, in the layout that `from_pretrained` reads. Its MODEL_CARD.md says what it can do."""

SMALL_MODELS_TOML = f"""
[[models]]
name = "tiny-chat"
path = "{TINY_CHAT}"
sampling = {{ temperature = 0.0 }}
engine = {{ dtype = "float32" }}

[[models]]
name = "all-MiniLM-L6-v2"
task = "embedding"

[[models]]
name = "whisper-tiny.en"
task = "transcription"
"""


def tiny_chat(**fields: Any) -> ModelConfig:
    """The configuration of ``tests/models/tiny-chat``, greedy and in float32, with changed fields."""
    engine = {"dtype": "float32", **fields.pop("engine", {})}
    fields = {"name": "tiny-chat", "sampling": SamplingConfig(temperature=0.0), **fields}
    return ModelConfig(path=str(TINY_CHAT), engine=engine, **fields)


def only(task: Task) -> Config:
    """One model of the task, for chat the tiny one: a test need not wait for those it does not use."""
    return Config(models=(tiny_chat(),)) if task == "chat" else only_default(task)


def only_default(task: Task) -> Config:
    """The default model of the task alone."""
    return Config(models=tuple(model for model in default_models() if model.task == task))


def real_model(task: Task) -> Path:
    """Where the default model of a task is, downloaded if it is not here."""
    (model,) = only_default(task).models
    path = find_backend(model.backend or "", task).fetch(model, lambda received, total: None)
    assert path is not None
    return path


def with_tiny_chat() -> tuple[ModelConfig, ...]:
    """The tiny chat model beside the default models of the other tasks."""
    return (tiny_chat(), *(model for model in default_models() if model.task != "chat"))
