"""Many conversations of several keys, word for word the same in each key, and a model that thinks of something secret.

What it thinks stays in the conversation's tokens and is never sent. It looks at every prompt for what it thought
elsewhere.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import re
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
from asgi_client import Client, running
from echo_backend import END, EchoBackend

from ark.config import ModelConfig
from ark.engines.backend import Capabilities
from ark.engines.chat import GenerationJob, TokenBatch

CANARY = re.compile(r"<(\w+) in (\d+) thought (\d+)>")
CONVERSATION = re.compile(r"conversation (\d+)")
TOPICS = ("rain", "tea", "trains", "stars")


@dataclass
class Seen:
    """What was found in all prompts."""

    leaks: list[str] = field(default_factory=list)
    own: int = 0
    """Canaries of the conversation itself."""

    def look(self, owner: str, prompt: str) -> str:
        """Look for canaries in a prompt; gives the conversation that it is of."""
        number = CONVERSATION.search(prompt)
        assert number is not None, prompt
        for canary in CANARY.finditer(prompt):
            if (canary[1], canary[2]) == (owner, number[1]):
                self.own += 1
            else:
                self.leaks.append(f"{canary[0]} in a prompt of {owner} in {number[1]}")
        return number[1]


SEEN = Seen()
"""Of the backends of this process."""


class Canaries(EchoBackend):
    """Thinks of a canary before each reply. What it says is a function of what is visible, the same for all keys."""

    _numbers = itertools.count()

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model)
        self.capabilities = Capabilities(parameters=self.capabilities.parameters, reasoning=True)

    async def generate(self, job: GenerationJob) -> AsyncGenerator[TokenBatch, None]:
        prompt = self.tokenizer.decode(job.prompt)
        number = SEEN.look(job.owner, prompt)
        yield TokenBatch(cached_tokens=len(job.prompt) - 1)
        await anyio.lowlevel.checkpoint()
        thought = f"<think><{job.owner} in {number} thought {next(self._numbers)}></think>"
        said = f"Reply {prompt.count('user: ')} on {prompt.rpartition('user: ')[2].partition(' ')[0]}"
        yield TokenBatch(token_ids=[*(thought + said).encode(), END], finish_reason="stop")


def keys(names: Sequence[str]) -> list[dict[str, str]]:
    return [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name in names]


@dataclass(eq=False)
class Talk:
    """A client's side of one conversation; it returns no cookie."""

    key: str
    number: int
    messages: list[dict[str, Any]] = field(default_factory=list)

    async def take_turn(self, client: Client, draw: random.Random, model: str, **more: Any) -> tuple[str, str]:
        """One turn, perhaps after going back; gives how it continued and the reply."""
        if self.messages and draw.random() < 0.15:
            del self.messages[-2 * draw.randint(1, 2) :]
        if len(self.messages) > 12:
            self.messages.clear()
        question = f"{draw.choice(TOPICS)} in conversation {self.number}?"
        sent = [*self.messages, {"role": "user", "content": question}]
        headers = [("authorization", f"Bearer {self.key}")]
        if draw.random() < 0.2:
            headers.append(("x-session-id", f"agent-{self.number % 3}"))
        body = {"model": model, "messages": sent, **more}
        reply = await client.request("POST", "/v1/chat/completions", json=body, headers=headers)
        assert reply.status == 200, reply.text
        said = reply.json()["choices"][0]["message"]["content"]
        self.messages = [*sent, {"role": "assistant", "content": said}]
        return reply.headers["x-ark-session"].split("; ")[1], said


async def drive(
    directory: Path,
    *,
    models: list[dict[str, Any]],
    turns: int,
    conversations: int,
    names: Sequence[str] = ("ann", "bob", "eve", "joe"),
    restarts: int = 4,
    check: Any = None,
    more: dict[str, Any] | None = None,
    **sessions: Any,
) -> Counter[str]:
    """Turns of all conversations of all keys in random order, eight at once, with restarts between them; counts how
    they continued. `check` gets the client, the messages that a turn sent and its reply."""
    draw = random.Random(1)
    talks = [Talk(name, number) for number in range(conversations) for name in names]
    how: Counter[str] = Counter()
    model = models[0]["name"]
    config = {"path": str(directory / "sessions.db"), **sessions}

    async def work(client: Client, left: list[int]) -> None:
        while left:
            left.pop()
            talk = draw.choice(talks)
            continued, said = await talk.take_turn(client, draw, model, **(more or {}))
            how[continued] += 1
            if check is not None:
                await check(client, talk.messages[:-1], said)

    for _ in range(restarts + 1):
        async with running(models=models, keys=keys([*names, "cold"]), sessions=config) as client:
            left = [0] * (turns // (restarts + 1))
            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(work, client, left)
    return how
