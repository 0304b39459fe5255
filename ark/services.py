"""What endpoints are given: the server's parts, made once by `ark.app`."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from ark.config import Config
from ark.models.served import Registry
from ark.ops.keys import Keys
from ark.ops.limits import Limiter
from ark.ops.metrics import Metrics
from ark.ops.tracing import Tracer
from ark.process import memory
from ark.sessions.conversations import ConversationStore
from ark.sessions.responses import ResponseStore
from ark.sessions.sealing import Seal
from ark.sessions.service import Sessions
from ark.sessions.sqlite import SqliteStorage
from ark.sessions.store import Evicted

SWEEP_INTERVAL = 30.0
"""Seconds."""
_SECRET = "encryption_key"
"""The record of the secret that is made where none is configured."""


class Services:
    """The parts of one running server. Raises ConfigError for a file of keys that cannot be used."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.registry = Registry(config)
        served = {served.name for served in self.registry.models}
        self.keys = Keys(config.keys, config.server.keys_file, served)
        self.limiter = Limiter(config.limits)
        path = config.sessions.path
        storage = None if path is None else SqliteStorage(Path(path).expanduser())
        self.sessions = Sessions(config.sessions, storage=storage, on_evict=self._evicted)
        self.responses = ResponseStore(config.responses, self.sessions, self.registry.release)
        self.conversations = ConversationStore(config.responses, self.sessions, self.responses)
        self.seal = Seal(secrets.token_bytes(32))
        self.metrics = Metrics(self.registry, self.sessions, self.responses, self.conversations, self.limiter)
        self.tasks: TaskGroup | None = None
        """What runs beside the requests, while the server runs."""
        self.background: dict[tuple[str, str], Any] = {}
        """Responses that are made while nobody waits for them, by owner and id."""
        self.tracer: Tracer | None = None
        self.created = int(time.time())
        """Unix time at which the server started, the `created` of its models."""
        self.draining = False

    async def open(self) -> None:
        """Read what is stored. Raises StorageError."""
        records = await self.sessions.open()
        self.responses.restore(records)
        self.conversations.restore(records)
        self.responses.collect()
        configured = self.config.responses.encryption_key
        secret = records.get(_SECRET) or secrets.token_bytes(32)
        if configured is None and _SECRET not in records:
            await self.sessions.save_record(_SECRET, secret)
        self.seal = Seal(secret if configured is None else configured.encode())

    def _evicted(self, evicted: Evicted) -> None:
        if evicted.whole:
            counts = self.metrics.evicted
            counts[evicted.cause] = counts.get(evicted.cause, 0) + 1
        self.registry.release(evicted.released)

    async def sweep(self) -> None:
        """Expire sessions now and then, and return free memory to the system while nothing runs; until cancelled."""
        while True:
            await anyio.sleep(SWEEP_INTERVAL)
            self.sessions.store.sweep()
            self.responses.sweep()
            self.conversations.sweep()
            if not self.limiter.running:
                await anyio.to_thread.run_sync(memory.trim)
