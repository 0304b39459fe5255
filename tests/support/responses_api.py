"""What tests of /responses send."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from asgi_client import ECHO, Client, Response, backend_of
from response_referees import check_body, check_stream

TOOLED = ECHO | {"backend": "faulty_backend:Faulty", "engine": {"all_parameters": True}, "tool_format": "hermes"}
"""Accepts every parameter, and writes what the last message says."""
FUNCTION = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
CUSTOM = {"type": "custom", "name": "run"}
CALL = '<tool_call>\n{"name": "look", "arguments": {"place": "Paris"}}\n</tool_call>'
RUN = '<tool_call>\n{"name": "run", "arguments": {"input": "print(\\"\\u00e9\\")\\n"}}\n</tool_call>'
AGENTS = Path(__file__).parents[1] / "data" / "agents"
KEYS = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name in ("ann", "bob")]


async def post(client: Client, input: Any = "hello", *, key: str | None = None, **fields: Any) -> Response:
    body = {"model": "echo", "input": input, **fields}
    headers = [] if key is None else [("authorization", f"Bearer {key}")]
    reply = await client.request(
        "POST",
        "/v1/responses",
        json={name: value for name, value in body.items() if value is not None},
        headers=headers,
    )
    if reply.status == 200 and fields.get("stream"):
        check_stream(reply.text)
    elif reply.status == 200:
        check_body(reply.json())
    return reply


def prompt_of(client: Client, job: int = -1) -> str:
    return bytes(backend_of(client).jobs[job].prompt).decode()
