"""A whole chat backend in one class: it repeats the last user message.

It shows what ARK asks of an engine. Serve it with this ``ark.toml``::

    [[models]]
    name = "echo"
    backend = "echo_backend:EchoBackend"

    [models.engine]
    tokens_per_second = 50

A package that ships a backend registers its class as an entry point of the group ``ark.backends`` instead, and the
configuration names the entry point.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import anyio
import msgspec

from ark.config import ModelConfig
from ark.engines.backend import Capabilities
from ark.engines.chat import BackendStatus, GenerationJob, SamplingParams, TokenBatch
from ark.errors import TooManyRequests

END = 256
"""The id of the end of a turn: the first one after the 256 bytes."""


class EchoOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[models.engine]``"""

    tokens_per_second: float = 0.0
    """Speed of the reply; 0 for no limit."""
    prefill_seconds: float = 0.0
    """Time that reading the prompt takes."""


class ByteStream:
    """Decodes bytes to text, whole characters only."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_ids: Sequence[int]) -> str:
        return self._decoder.decode(bytes(token for token in token_ids if token < END))

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class ByteTokenizer:
    """Every byte is a token."""

    vocab_size = END + 1
    stop_token_ids = frozenset({END})
    opening_ids = ()
    special_texts = ()
    chat_template = None

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str:
        lines = [f"{message['role']}: {message['content']}\n" for message in messages]
        return "".join(lines) + ("assistant: " if add_generation_prompt else "")

    def encode(self, text: str) -> list[int]:
        return list(text.encode("utf-8", "replace"))

    def decode(self, token_ids: Sequence[int]) -> str:
        return bytes(token for token in token_ids if token < END).decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < END else b""

    def stream(self) -> ByteStream:
        return ByteStream()


class EchoBackend:
    """Answers with the last user message."""

    def __init__(self, model: ModelConfig) -> None:
        self._options = model.engine_options(EchoOptions)
        self._max_running = model.max_queue
        self._running = 0
        self._finished = 0
        self._cancelled = 0
        self.tokenizer = ByteTokenizer()
        self.context_length = model.context_length or 4096
        self.capabilities = Capabilities(
            parameters=frozenset({"max_tokens", "max_completion_tokens", "stream", "stream_options", "stop"})
        )
        self.default_sampling = SamplingParams()

    @classmethod
    async def open(cls, model: ModelConfig) -> EchoBackend:
        return cls(model)

    async def close(self) -> None:
        return

    def status(self) -> BackendStatus:
        return BackendStatus(
            alive=True, running=self._running, jobs_finished=self._finished, jobs_cancelled=self._cancelled
        )

    def release(self, session: str) -> None:
        return

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenBatch, None]:
        if self._running >= self._max_running:
            raise TooManyRequests("Too many requests are waiting for this model.")
        self._running += 1
        self._cancelled += 1
        try:
            yield TokenBatch(cached_tokens=0)
            await anyio.sleep(self._options.prefill_seconds)
            answer = [*self._answer(job.prompt), END][: job.max_tokens]
            for number, token in enumerate(answer, 1):
                if self._options.tokens_per_second:
                    await anyio.sleep(1 / self._options.tokens_per_second)
                if number < len(answer):
                    yield TokenBatch(token_ids=(token,))
            # Up to here, closing the generator cancels the job. The server also closes it after the last batch, so
            # the job has to count as finished before that batch is sent.
            self._cancelled -= 1
            self._finished += 1
            yield TokenBatch(token_ids=answer[-1:], finish_reason="stop" if answer[-1] == END else "length")
        finally:
            self._running -= 1

    def _answer(self, prompt: Sequence[int]) -> bytes:
        text = bytes(prompt)
        return text.rpartition(b"user: ")[2].removesuffix(b"assistant: ").rstrip(b"\n")
