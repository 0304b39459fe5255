"""How a backend over an engine is opened and closed. This module is light: it imports no engine's library."""

from __future__ import annotations

from functools import partial
from typing import Any, Self

import anyio
import anyio.to_thread

from ark.concurrency import load_in_thread
from ark.config import ModelConfig


class EngineBackend:
    """The life of a backend over an `ark_backends.kit.engine.Engine`."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    @classmethod
    async def open(cls, model: ModelConfig) -> Self:
        # What computes on a thread is not to compute on one that stays: see `run_on_own_thread`.
        parts = await load_in_thread(partial(cls._load, model))
        # Not in that thread: cancelled meanwhile, it would leave a running thread that nobody closes.
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
