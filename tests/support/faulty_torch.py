"""The torch chat engine with faults in the model's forward pass, controlled by a file beside the weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from ark.config import ModelConfig
from ark_backends.torch_chat import TorchChat

Fault = Literal["hold", "out of memory", "memory error", "bug", "exit"]

SECRET = "the internals of the engine"


def set_fault(model: Path, fault: Fault | None) -> None:
    """Set the fault from the next forward pass on; None removes it, and releases passes that are held."""
    if fault is None:
        _file(model).unlink(missing_ok=True)
    else:
        _file(model).write_text(fault, encoding="utf-8")


def is_held(model: Path) -> bool:
    """Whether a forward pass is held."""
    return _held(model).exists()


def _file(model: Path) -> Path:
    return model / "fault"


def _held(model: Path) -> Path:
    return model / "held"


def _hook(model: Path) -> Callable[..., None]:
    import torch

    file, held = _file(model), _held(model)

    def hook() -> None:
        while True:
            try:
                fault = file.read_text(encoding="utf-8")
            except FileNotFoundError:
                held.unlink(missing_ok=True)
                return
            match fault:
                case "hold":
                    held.touch()
                    time.sleep(0.005)
                case "out of memory":
                    raise torch.OutOfMemoryError(f"CUDA out of memory: {SECRET}")
                case "memory error":
                    raise MemoryError(SECRET)
                case "bug":
                    raise ZeroDivisionError(SECRET)
                case "exit":
                    raise SystemExit(SECRET)

    return hook


class FaultyChat(TorchChat):
    """`torch_chat`; the model has to be a directory."""

    @classmethod
    async def open(cls, model: ModelConfig) -> TorchChat:
        chat = await super().open(model)
        runner, hook = chat._engine._runner, _hook(Path(model.source))
        forward = runner.forward

        def faulty(*arguments: Any) -> Any:
            hook()
            return forward(*arguments)

        runner.forward = faulty
        return chat
