"""A thousand sessions over memory for fifty: nothing is lost, nothing is wrong, and the budget holds."""

from __future__ import annotations

import random
import uuid
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from tiny_model import save_tiny_llama

from ark.chat.prompt.builder import PromptBuilder
from ark.chat.turn import TurnRequest, begin_turn
from ark.config import ModelConfig, SessionsConfig
from ark.engines.chat import ChatBackend, SamplingParams
from ark.ops.requests import Histogram, RequestRecord
from ark.sessions.service import Sessions
from ark.sessions.transcript import read_messages
from ark_backends.torch_chat import TorchChat

SESSIONS = 1000
TURNS = 2000
MINUTES = 20
TOKEN_BYTES = 2 * 2 * 2 * 16 * 4
"""Of the tiny model: keys and values, layers, KV heads, head size, float32."""
BUDGET = 50 * 200 * TOKEN_BYTES


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


class Harness:
    """Turns without a server around them, so that the clock can be compressed."""

    def __init__(self, backend: ChatBackend, sessions: Sessions) -> None:
        self.backend = backend
        self.sessions = sessions
        self.prompts = PromptBuilder(backend.tokenizer, model="tiny", context_length=backend.context_length)
        self.how: dict[str, int] = {}

    async def say(self, messages: Sequence[tuple[str, str]], stateful: str | bool) -> str:
        request = TurnRequest(
            request_id="test",
            model="tiny",
            owner="",
            messages=read_messages({"role": role, "content": content} for role, content in messages),
            max_tokens=5,
            sampling=SamplingParams(temperature=0.0),
            stop_token_ids=self.backend.tokenizer.stop_token_ids,
            stops=(),
            reasoning=False,
        )
        work = RequestRecord("test", "POST", "http", {}).begin(
            "chat", "tiny", request, meters={"tiny": defaultdict(lambda: Histogram(()))}
        )
        async with (
            await self.sessions.begin("", stateful=stateful) as session,
            begin_turn(request, session, backend=self.backend, prompts=self.prompts, observer=work) as turn,
        ):
            async for _ in turn:
                status = self.backend.status()
                assert status.kv_bytes <= status.kv_budget == BUDGET
        self.how[turn.how] = self.how.get(turn.how, 0) + 1
        return turn.outputs[0].content


@pytest.mark.anyio
async def test_a_thousand_sessions_share_memory_for_fifty(tmp_path: Path) -> None:
    save_tiny_llama(tmp_path)
    engine = {"dtype": "float32", "threads": 1, "kv_bytes": BUDGET, "self_check": False}
    backend = await TorchChat.open(ModelConfig(name="tiny", path=str(tmp_path), engine=engine))
    clock = Clock()

    def release(evicted: object) -> None:
        raise AssertionError(f"nothing may be evicted, but {evicted} was")

    harness = Harness(backend, Sessions(SessionsConfig(), clock=clock, on_evict=release))
    draw = random.Random(7)
    names = [str(uuid.UUID(int=draw.getrandbits(128), version=4)) for _ in range(SESSIONS)]
    said: dict[str, list[tuple[str, str]]] = {name: [] for name in names}
    # Every session once, then in random order; a session takes one turn at a time.
    order = names + [draw.choice(names) for _ in range(TURNS - SESSIONS)]
    locks = {name: anyio.Lock() for name in names}
    waiting = iter(order)

    async def work() -> None:
        for name in waiting:
            clock.now += MINUTES * 60 / TURNS
            async with locks[name]:
                history = said[name]
                new = ("user", f"{name} says {name}, turn {len(history)}.")
                reply = await harness.say([new], name)
                history.append(new)
                assert reply == await harness.say(history, False)
                history.append(("assistant", reply))

    try:
        async with anyio.create_task_group() as tasks:
            for _ in range(12):
                tasks.start_soon(work)
        assert len(harness.sessions.store) == SESSIONS
        assert harness.how["created"] == SESSIONS
        # The memory is for fifty, so most of the later turns read their transcript again, and answer the same.
        assert harness.how["rebuilt"] + harness.how["continued"] == TURNS - SESSIONS
        assert harness.how["rebuilt"] > (TURNS - SESSIONS) / 2
        for name in names:
            info = harness.sessions.store.describe("", name)
            assert info.messages == len(said[name])
    finally:
        await backend.close()
