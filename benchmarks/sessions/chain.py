"""A chain of responses over HTTP: each turn continues the one before it, and its first token is timed."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any, Literal

import httpx

Way = Literal["id", "whole"]
"""A turn sends its new message and the id of the response before it, or the whole conversation."""


@dataclass(frozen=True)
class Turn:
    """What one turn took."""

    first: float
    """Seconds to the first text."""
    input: int
    """Tokens of the whole prompt."""
    cached: int | None
    """Of them, not computed again; None where the server does not say so."""
    output: int

    @property
    def prefilled(self) -> int | None:
        return None if self.cached is None else self.input - self.cached


def run(client: httpx.Client, model: str, texts: list[str], *, reply_tokens: int, way: Way = "id") -> list[Turn]:
    """One turn for each text, in a conversation of its own."""
    turns: list[Turn] = []
    items: list[dict[str, Any]] = []
    previous = None
    for text in texts:
        items = [] if way == "id" else items
        items.append({"role": "user", "content": text})
        body = {"model": model, "input": items, "max_output_tokens": reply_tokens, "temperature": 0, "stream": True}
        if way == "id" and previous is not None:
            body["previous_response_id"] = previous
        turn, response = respond(client, body)
        turns.append(turn)
        previous = response["id"]
        said = "".join(part["text"] for item in response["output"] for part in item.get("content") or ())
        part = {"type": "output_text", "text": said, "annotations": []}
        items.append({"type": "message", "role": "assistant", "content": [part]})
    return turns


def respond(client: httpx.Client, body: dict[str, Any]) -> tuple[Turn, dict[str, Any]]:
    """One streamed response, and what its last event says of it."""
    first, response = 0.0, {}
    begun = time.perf_counter()
    with client.stream("POST", "/responses", json=body) as reply:
        if reply.status_code != 200:
            raise RuntimeError(f"{reply.status_code} {reply.read().decode()}")
        for line in reply.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            if not first and event["type"] in ("response.output_text.delta", "response.reasoning_text.delta"):
                first = time.perf_counter() - begun
            response = event.get("response") or response
    usage = response["usage"]
    details = usage.get("input_tokens_details") or {}
    return Turn(first, usage["input_tokens"], details.get("cached_tokens"), usage["output_tokens"]), response
