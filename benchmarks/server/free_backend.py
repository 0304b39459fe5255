"""A chat backend that costs nothing, so that only the server's own cost remains."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from anyio.lowlevel import checkpoint

from ark.config import ModelConfig
from ark.engines.backend import Capabilities
from ark.engines.chat import BackendStatus, GenerationJob, SamplingParams, TokenBatch

sys.path.append(str(Path(__file__).resolve().parents[2] / "examples"))

from echo_backend import ByteTokenizer

TOKEN = ord("a")
BATCH = TokenBatch(token_ids=(TOKEN,))


class FreeBackend:
    """Generates as many letters as requested, one in each iteration of the event loop."""

    def __init__(self) -> None:
        self.tokenizer = ByteTokenizer()
        self.context_length = 1 << 20
        self.capabilities = Capabilities(parameters=frozenset({"max_tokens", "stream", "stream_options"}))
        self.default_sampling = SamplingParams()

    @classmethod
    async def open(cls, model: ModelConfig) -> FreeBackend:
        return cls()

    async def close(self) -> None:
        return

    def status(self) -> BackendStatus:
        return BackendStatus(alive=True)

    def release(self, session: str) -> None:
        return

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenBatch, None]:
        yield TokenBatch(cached_tokens=0)
        for _ in range(job.max_tokens - 1):
            await checkpoint()
            yield BATCH
        yield TokenBatch(token_ids=(TOKEN,), finish_reason="length")
