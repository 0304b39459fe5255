"""Clients that disconnect: at every stage of a request, normally or with a reset."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

from client import CHAT, EMBEDDING, Client, Conversation
from speech import recordings
from talk import Turn
from wire import head, post, upload, wire

KINDS = (
    "head",
    "half a body",
    "queue or prefill",
    "first event",
    "mid-stream",
    "embeddings",
    "half a recording",
    "a recording",
    "half closed",
)

COMMITTING = 5.0
"""Seconds in which a turn has to end after its client has disconnected."""


def _long(**more: Any) -> dict[str, Any]:
    """A long request: its prompt is long, and its reply does not end by itself."""
    messages = [{"role": "user", "content": "Tell me a story about a fox and a lantern. " * 20}]
    return {"model": CHAT, "messages": messages, "max_tokens": 1500, "ignore_eos": True, "stream": True} | more


async def leave(client: Client, kind: str) -> None:
    """One request whose client does not wait for the reply."""
    http = client.http
    async with wire(http) as connection:
        if client.draw.random() < 0.5:
            connection.reset_when_closed()
        if kind == "head":
            await connection.send(head(http, "POST", "/v1/chat/completions", "content-length: 100")[:-2])
        elif kind == "half a body":
            whole = post(http, "/v1/chat/completions", _long())
            await connection.send(whole[: len(whole) - 200])
        elif kind == "embeddings":
            await connection.send(post(http, "/v1/embeddings", {"model": EMBEDDING, "input": ["long ago"] * 200}))
        elif kind.endswith("a recording"):
            # Where no model transcribes it is refused, and left all the same.
            whole = upload(http, recordings()["talk.wav"])
            await connection.send(whole[: len(whole) // 2] if kind.startswith("half") else whole)
        elif kind == "half closed":
            await connection.send(post(http, "/v1/chat/completions", _long(max_tokens=50)))
            connection.writer.write_eof()
            await connection.rest()
        else:
            await connection.send(post(http, "/v1/chat/completions", _long()))
            events = {"queue or prefill": 0, "first event": 1, "mid-stream": 20}[kind]
            for _ in range(events):
                await connection.reader.readuntil(b"data: ")
        await asyncio.sleep(0.02 * client.draw.random())


async def leave_turn(conversation: Conversation, turn: Turn, number: int) -> bool:
    """Begin a turn of a named session and leave in its stream; the session is then whole: with the turn, or as before.

    True when the turn was committed all the same, since the whole reply was there before the client was missed.
    """
    client = conversation.client
    body = {"model": CHAT, "max_tokens": 120, "stream": True, "temperature": 0, **conversation.fields(turn.text)}
    async with (
        client.http.stream("POST", "/chat/completions", json=body) as reply,
        aclosing(reply.aiter_bytes()) as got,
    ):
        client.book.statuses[reply.status_code] += 1
        await anext(got)
    for _ in range(int(COMMITTING / 0.05)):
        messages = await conversation.messages()
        if messages >= 0:
            break
        await asyncio.sleep(0.05)
    client.book.done["left, a session's turn"] += 1
    if messages not in (2 * number, 2 * number + 2):
        client.book.fail("session", f"{messages} messages after turn {number} was left")
    return messages == 2 * number + 2
