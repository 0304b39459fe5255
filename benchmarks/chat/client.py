"""The client for all servers: it streams a chat completion and records when each piece arrives."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

CLOSE = "</think>"


@dataclass
class Reply:
    """A streamed reply. Times are seconds from sending."""

    times: list[float] = field(default_factory=list)
    """When each event with text arrived, reasoning included."""
    text: str = ""
    """The answer, without the reasoning."""
    tokens: int = 0
    prompt: int = 0
    cached: int | None = None
    """Cached tokens of the prompt, as the server reports them."""

    @property
    def first(self) -> float:
        return self.times[0]

    @property
    def gaps(self) -> list[float]:
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]


class Client:
    """One user of one server, with a cookie jar, as OpenAI's client has one."""

    def __init__(self, url: str, model: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=600)
        self._model = model

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, messages: list[dict[str, str]], tokens: int, **more: Any) -> Reply:
        """Request exactly this many greedy tokens; a model may end earlier."""
        body = {
            "model": self._model,
            "messages": messages,
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **more,
        }
        reply = Reply()
        begun = time.perf_counter()
        async with self._http.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                raise RuntimeError(f"{response.status_code}: {(await response.aread()).decode()}")
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    self._read(reply, json.loads(line.removeprefix("data: ")), time.perf_counter() - begun)
        # Some servers leave the reasoning and its tags in the text.
        reply.text = reply.text.partition(CLOSE)[2] if CLOSE in reply.text else reply.text
        return reply

    @staticmethod
    def _read(reply: Reply, event: dict[str, Any], moment: float) -> None:
        for choice in event.get("choices", ()):
            delta = choice["delta"]
            if delta.get("content") or delta.get("reasoning_content"):
                reply.times.append(moment)
                reply.text += delta.get("content") or ""
        if usage := event.get("usage"):
            reply.tokens, reply.prompt = usage["completion_tokens"], usage["prompt_tokens"]
            reply.cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
