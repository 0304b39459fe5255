"""A small server of responses that is correct, except in one way if its URL names a flaw: ``/FLAW/v1``.

Its model says the same at all times, and a token is a word. It shares no code with ARK.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from flawed_server import Receive, Send

KEYS = ("sk-right", "sk-other")
SAID = "So be it."
NEVER = {"message": "There is no such response.", "type": "invalid_request_error", "param": None, "code": None}


@dataclass
class Stored:
    """A response, and the tokens up to its end."""

    key: str
    body: dict[str, Any]
    items: list[dict[str, Any]]
    tokens: int


@dataclass
class Memory:
    """What a server with one flaw has stored."""

    alive: dict[str, Stored] = field(default_factory=dict)
    deleted: dict[str, Stored] = field(default_factory=dict)
    made: int = 0


_memories: dict[str, Memory] = {}


def restart(flaw: str) -> None:
    """End the server and start it again."""
    memory = _memories[flaw]
    if flaw == "a-restart-loses-all":
        memory.alive.clear()
    if flaw == "a-restart-brings-back-what-was-deleted":
        memory.alive |= memory.deleted


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    _, flaw, _, *path = scope["path"].split("/")
    key = dict(scope["headers"])[b"authorization"].decode().removeprefix("Bearer ")
    asked = json.loads(body) if body else {}
    status, reply = answer(flaw, key, scope["method"], path, asked)
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(reply).encode()})


def answer(flaw: str, key: str, method: str, path: list[str], asked: dict[str, Any]) -> tuple[int, Any]:
    memory = _memories.setdefault(flaw, Memory())
    match method, path:
        case "GET", ["models"]:
            return 200, {"object": "list", "data": [{"id": "word", "object": "model", "created": 1, "owned_by": "us"}]}
        case "POST", ["responses"]:
            return create(memory, flaw, key, asked)
        case _, ["responses", number, *rest]:
            found = find(memory, flaw, key, number)
            if found is not None:
                return 200, read_or_delete(memory, flaw, found, "items" if rest else method)
    return 404, {"error": NEVER}


def read_or_delete(memory: Memory, flaw: str, found: Stored, what: str) -> Any:
    if what == "DELETE":
        delete(memory, flaw, found.body["id"])
        return {"id": found.body["id"], "object": "response", "deleted": True}
    if what == "items":
        items = [] if flaw == "no-items" else found.items
        return {"object": "list", "data": items, "has_more": False, "first_id": "a", "last_id": "b"}
    return found.body | ({"output": []} if flaw == "no-output-by-id" else {})


def find(memory: Memory, flaw: str, key: str, number: str | None) -> Stored | None:
    found = memory.alive.get(number or "")
    return found if found is not None and (found.key == key or flaw == "one-owner") else None


def delete(memory: Memory, flaw: str, number: str) -> None:
    if flaw == "nothing-is-deleted":
        return
    memory.deleted[number] = memory.alive.pop(number)
    if flaw == "what-is-behind-is-deleted-too":
        for one in [one for one in memory.alive.values() if one.body["previous_response_id"] == number]:
            delete(memory, flaw, one.body["id"])


def create(memory: Memory, flaw: str, key: str, asked: dict[str, Any]) -> tuple[int, Any]:
    previous = asked.get("previous_response_id")
    before = find(memory, flaw, key, previous)
    if previous is not None and before is None and flaw != "an-unknown-id-is-a-beginning":
        return 400, {"error": NEVER | {"code": "previous_response_not_found"}}
    known = 0 if before is None else before.tokens
    if flaw == "it-forgets":
        known = 0
    if flaw == "one-branch-for-all" and before is not None:
        known = max(one.tokens for one in memory.alive.values())
    given = asked["input"]
    if isinstance(given, str):
        given = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": given}]}]
    read = known + len(json.dumps(given).split())
    cached = 0 if flaw == "all-is-read-again" else known
    memory.made += 1
    body = reply(memory.made, asked, read, cached)
    items = [{"id": f"item_{index}", "status": "completed", **item} for index, item in enumerate(given)]
    memory.alive[body["id"]] = Stored(key, body, items, read + body["usage"]["output_tokens"])
    return 200, body


def reply(number: int, asked: dict[str, Any], read: int, cached: int) -> dict[str, Any]:
    output: dict[str, Any] = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": SAID, "annotations": []}],
    }
    if isinstance(choice := asked.get("tool_choice"), dict):
        output = {"type": "function_call", "name": choice["name"], "call_id": f"call_{number}", "arguments": "{}"}
    wrote = len(SAID.split())
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "model": asked["model"],
        "output": [{"id": f"out_{number}", "status": "completed", **output}],
        "previous_response_id": asked.get("previous_response_id"),
        "parallel_tool_calls": True,
        "tool_choice": asked.get("tool_choice", "auto"),
        "tools": asked.get("tools", []),
        "usage": {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
            "output_tokens": wrote,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + wrote,
        },
    }
