"""Small random models of the architectures served, and engines over them."""

from __future__ import annotations

import copy
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from typing import Any

import pytest

from ark.engines.chat import GenerationJob, SamplingParams

# numba is installed on x86-64 alone, where there are models in 8 bits.
collect_ignore = [] if find_spec("numba") else ["torch_chat/test_compiled.py", "torch_chat/test_compiled_opening.py"]

VOCABULARY = 199
WINDOW = 16


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Tiny:
    """A random model twice: plain, as the referee, and packed in a runner, compiled where that can be."""

    def __init__(self, architecture: str) -> None:
        from ark_backends.torch_chat import compiled
        from ark_backends.torch_chat.runner import Runner

        self.plain = make_model(architecture)
        self.runner = Runner(copy.deepcopy(self.plain))
        if compiled.unfit(self.runner.model, self.runner.spec) is None:
            self.runner.compile()
        self._known: dict[tuple[tuple[int, ...], int], list[int]] = {}

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        """What plain transformers generates."""
        import torch

        key = (tuple(prompt), count)
        if key not in self._known:
            ids = torch.tensor([prompt])
            out = self.plain.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False, eos_token_id=None
            )
            self._known[key] = out[0, len(prompt) :].tolist()
        return self._known[key]

    def kv(self, tokens: int) -> int:
        """Bytes of KV of so many tokens."""
        size: int = self.runner.spec.token_bytes * tokens
        return size


def make_model(architecture: str) -> Any:
    """A random causal LM, float32, sharp enough that its most likely token is no matter of rounding."""
    import torch
    import transformers

    common = {
        "vocab_size": VOCABULARY,
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    sliding = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
    rope = {"rope_type": "default", "rope_theta": 10_000.0}
    special: dict[str, dict[str, Any]] = {
        "Llama": {"tie_word_embeddings": True},
        "Qwen2": {"use_sliding_window": True, **sliding},
        "Qwen3": {"head_dim": 16},
        "Mistral": {"sliding_window": WINDOW},
        "Gemma2": {"head_dim": 16, "attn_logit_softcapping": 5.0, **sliding},
        "Gemma3Text": {"head_dim": 16, **sliding},
        "GptOss": {
            "head_dim": 16,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "rope_parameters": rope,
            **sliding,
        },
    }
    config = getattr(transformers, f"{architecture}Config")(**common, **special.get(architecture, {}))
    torch.manual_seed(7)
    # Of transformers' own attention functions, only the eager one knows caps and sinks.
    eager = {"attn_implementation": "eager"} if architecture in {"Gemma2", "GptOss"} else {}
    model = transformers.AutoModelForCausalLM.from_config(config, **eager)
    return model.float().eval()


@pytest.fixture(scope="session")
def tiny() -> Callable[[str], Tiny]:
    return cache(Tiny)


@pytest.fixture(scope="session")
def llama(tiny: Callable[[str], Tiny]) -> Tiny:
    return tiny("Llama")


@dataclass
class Reply:
    """All that a job gave."""

    tokens: list[int] = field(default_factory=list)
    cached: int | None = None
    finish: str | None = None
    batches: int = 0


class WatchedRunner:
    """A runner that notes the lengths of the pieces of each pass."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self.passes: list[list[int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def forward(self, pieces: Any, wanted: Any) -> Any:
        self.passes.append([len(piece.token_ids) for piece in pieces])
        return self._runner.forward(pieces, wanted)


class Chat:
    """A backend over a tiny model, with short words for what tests say."""

    def __init__(self, model: Tiny, **limits: Any) -> None:
        from ark_backends.kit.grammar import Grammars
        from ark_backends.torch_chat import TorchChat
        from ark_backends.torch_chat.engine import TorchEngine, TorchLimits

        values: dict[str, Any] = {
            "context_length": 512,
            "kv_bytes": model.kv(20_000),
            "prefill_chunk": 32,
            "max_running": 8,
            "max_queue": 100,
            "threads": 1,
        }
        self.model = model
        self.runner: Any = WatchedRunner(model.runner)
        self.engine = TorchEngine(self.runner, TorchLimits(**(values | limits)))
        unused: Any = None
        grammars = Grammars([b"a"], hidden=[], ends=[])
        self.backend = TorchChat(self.engine, unused, grammars, SamplingParams())
        self.engine.start()

    def job(self, prompt: list[int], count: int, **more: Any) -> GenerationJob:
        sampling = more.pop("sampling", SamplingParams(temperature=0.0))
        return GenerationJob(request_id="test", prompt=prompt, max_tokens=count, sampling=sampling, **more)

    async def run(self, prompt: list[int], count: int, **more: Any) -> Reply:
        reply = Reply()
        async for batch in self.backend.generate(self.job(prompt, count, **more)):
            reply.batches += 1
            reply.tokens += batch.token_ids
            reply.finish = batch.finish_reason
            if batch.cached_tokens is not None:
                reply.cached = batch.cached_tokens
        return reply

    async def matches(self, prompt: list[int], count: int, **more: Any) -> Reply:
        """Run a greedy job and compare it with plain transformers."""
        reply = await self.run(prompt, count, **more)
        assert reply.tokens == self.model.greedy(prompt, count)
        return reply


Opened = Callable[..., AbstractAsyncContextManager[Chat]]


@pytest.fixture
def opened() -> Opened:
    @asynccontextmanager
    async def open_chat(model: Tiny, **limits: Any) -> AsyncIterator[Chat]:
        chat = Chat(model, **limits)
        try:
            yield chat
        finally:
            await chat.backend.close()

    return open_chat


@pytest.fixture
def words() -> Callable[[int, int], list[int]]:
    """A random prompt: its length, and what tells it from others of that length."""

    def make(length: int, seed: int = 0) -> list[int]:
        draw = random.Random(f"{length}/{seed}")
        return [draw.randrange(3, VOCABULARY) for _ in range(length)]

    return make
