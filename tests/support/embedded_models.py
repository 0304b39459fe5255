"""The embedded models of one task, served as they are by default: a test need not wait for those it does not use."""

from __future__ import annotations

from ark.config import Config, Task
from ark.models.default_models import default_models


def only(task: Task) -> Config:
    return Config(models=tuple(model for model in default_models() if model.task == task))
