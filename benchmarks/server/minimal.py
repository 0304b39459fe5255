"""A minimal FastAPI application: it streams chunks of OpenAI's form as server-sent events, and does nothing else."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel

app = FastAPI()


class Message(BaseModel):
    role: str
    content: str


class ChatRequest(BaseModel):
    model: str
    messages: list[Message]
    max_tokens: int = 16
    stream: bool = False


@app.post("/v1/chat/completions")
async def create(body: ChatRequest) -> Response:
    head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": body.model}
    if body.stream:
        return StreamingResponse(events(head, body.max_tokens), media_type="text/event-stream")
    message = {"role": "assistant", "content": "a" * body.max_tokens}
    choice = {"index": 0, "message": message, "finish_reason": "length"}
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice]})


async def events(head: dict[str, Any], count: int) -> AsyncGenerator[str, None]:
    for number in range(count):
        await asyncio.sleep(0)
        choice = {"index": 0, "delta": {"content": "a"}, "finish_reason": "length" if number == count - 1 else None}
        yield f"data: {json.dumps({**head, 'object': 'chat.completion.chunk', 'choices': [choice]})}\n\n"
    yield "data: [DONE]\n\n"
