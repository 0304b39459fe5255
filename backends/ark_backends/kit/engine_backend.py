"""How a backend over an engine is opened and closed. This module is light: it imports no engine's library."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import anyio
import anyio.to_thread

from ark.config import ModelConfig
from ark_backends.kit.threads import run_on_own_thread


class EngineBackend:
    """The life of a backend over an `ark_backends.kit.engine.Engine`."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    @classmethod
    async def open(cls, model: ModelConfig) -> Self:
        parts = await anyio.to_thread.run_sync(run_on_own_thread, partial(cls._load, model))
        # Not in the worker: cancelled meanwhile, it would leave a running thread that nobody closes.
        parts[0].start()
        return cls(*parts)

    @classmethod
    def _load(cls, model: ModelConfig) -> tuple[Any, ...]:
        """Everything that takes long, on a thread of its own: the arguments of the constructor, first the engine, which
        is not started. Raises ConfigError."""
        raise NotImplementedError

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._engine.close)
