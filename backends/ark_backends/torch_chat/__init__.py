"""Chat with any causal language model of transformers, batched continuously over retained KV.

This module is light: torch and transformers are imported when a model is opened.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from ark.backends import BackendStatus, Capabilities, ChatBackend, GenerationJob, SamplingParams, TokenBatch
from ark.config import ConfigError, ModelConfig
from ark_backends.torch_chat.options import TorchChatOptions

if TYPE_CHECKING:
    from ark_backends.grammar import Grammars
    from ark_backends.tokenizer import HFTokenizer
    from ark_backends.torch_chat.engine import Engine

__all__ = ["TorchChat", "TorchChatOptions"]

PARAMETERS = frozenset(
    {
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "n",
        "min_tokens",
        "response_format",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "reasoning_effort",
        "chat_template_kwargs",
        "max_tokens",
        "max_completion_tokens",
        "stop",
        "stop_token_ids",
        "ignore_eos",
        "stream",
        "stream_options",
    }
)

COMPILING = 4
"""Grammars compiled at the same time."""


class TorchChat:
    """`ark.backends.ChatBackend` on torch and transformers."""

    def __init__(
        self, engine: Engine, tokenizer: HFTokenizer, grammars: Grammars, default_sampling: SamplingParams
    ) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._grammars = grammars
        self._default_sampling = default_sampling
        # Of the threads that all share, large schemas get so many.
        self._compiling = anyio.CapacityLimiter(COMPILING)

    @classmethod
    async def open(cls, model: ModelConfig) -> TorchChat:
        options = model.engine_options(TorchChatOptions)
        engine, tokenizer, grammars, sampling = await anyio.to_thread.run_sync(_load, model, options)
        # Not in the worker: cancelled meanwhile, it would leave a running thread that nobody closes.
        engine.start()
        return cls(engine, tokenizer, grammars, sampling)

    async def close(self) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._engine.close)

    @property
    def tokenizer(self) -> HFTokenizer:
        return self._tokenizer

    @property
    def context_length(self) -> int:
        return self._engine.limits.context_length

    @property
    def capabilities(self) -> Capabilities:
        template = self._tokenizer.chat_template or ""
        return Capabilities(parameters=PARAMETERS, reasoning="<think>" in template)

    @property
    def default_sampling(self) -> SamplingParams:
        return self._default_sampling

    def status(self) -> BackendStatus:
        return self._engine.status()

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenBatch, None]:
        matcher = None
        if job.grammar is not None:
            # A large schema takes long to compile; neither the event loop nor the engine waits for it.
            compile_grammar = partial(self._grammars.compile, job.grammar)
            matcher = await anyio.to_thread.run_sync(compile_grammar, limiter=self._compiling)
        mailbox = self._engine.submit(job, matcher)
        left = job.n
        try:
            while left:
                batch = await mailbox.get()
                left -= batch.finish_reason is not None
                yield batch
        finally:
            self._engine.cancel(mailbox)

    def release(self, session: str) -> None:
        self._engine.release(session)


if TYPE_CHECKING:
    Opened = tuple[Engine, HFTokenizer, Grammars, SamplingParams]
    _conforms: type[ChatBackend] = TorchChat


def _load(model: ModelConfig, options: TorchChatOptions) -> Opened:
    """Everything that takes long, in a worker thread. Raises ConfigError."""
    try:
        from ark_backends.torch_chat.opening import open_model  # noqa: PLC0415 - torch is loaded only here
    except ImportError as error:
        raise ConfigError(f"the backend torch_chat needs the extra 'torch': {error}") from error
    return open_model(model, options)
