"""What the fuzzers send to /responses: bodies, items, tools, sealed reasoning, and messages of its WebSocket."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from asgi_client import ECHO, make_config

from ark.app import Ark

MODEL = ECHO | {
    "backend": "faulty_backend:Faulty",
    "engine": {"all_parameters": True, "reasoning": True},
    "tool_format": "hermes",
}
"""Takes every parameter, and writes what the last message says."""
BODY = 4000
"""Bytes of a body, so that its limits are met as well."""
LONGEST = 20.0
"""Seconds that one input may take."""

KINDS = ("message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "additional_tools",
         "custom_tool_call_output", "compaction", "item_reference", "web_search_call", "shell", "", None)  # fmt: skip
FIELDS = ("id", "role", "content", "call_id", "name", "namespace", "arguments", "input", "output", "summary", "status",
          "encrypted_content", "tools")  # fmt: skip
PARTS = ("input_text", "output_text", "text", "reasoning_text", "summary_text", "refusal", "input_image", "")
TEXTS = ("user", "assistant", "system", "developer", "a", "b", "look", "{}", "[", '{"a": 1}', "<think>x</think>", "",
         "\ud83d", "\x00", "x" * 300, '<tool_call>\n{"name": "look", "arguments": {}}\n</tool_call>',
         '<tool_call>\n{"name": "run", "arguments": {"input": "x"}}\n</tool_call>')  # fmt: skip
TOOLS: tuple[dict[str, Any], ...] = (
    {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}},
    {"type": "custom", "name": "run"},
    {"type": "custom", "name": "say", "format": {"type": "grammar", "syntax": "lark", "definition": "start: /a+/"}},
    {"type": "custom", "name": "say", "format": {"type": "grammar", "syntax": "regex", "definition": "("}},
    {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "look"}, {"type": "custom"}]},
    {"type": "web_search"},
    {"type": "function"},
)
MORE: tuple[dict[str, Any], ...] = (
    {"stream": True},
    {"store": False, "include": ["reasoning.encrypted_content"]},
    {"tool_choice": "required"},
    {"tool_choice": {"type": "function", "name": "look"}},
    {"tool_choice": {"type": "allowed_tools", "tools": [{"type": "custom", "name": "run"}]}},
    {"conversation": "conv_a"},
    {"truncation": "auto"},
    {"background": True},
    {"text": {"format": {"type": "json_object"}}},
    {"reasoning": {"effort": "low", "summary": "auto"}},
    {"instructions": "\ud800"},
    {"max_output_tokens": 1},
)


def responses(data: bytes) -> None:
    """Whatever is asked of /responses, and over its WebSocket, is answered, or refused as the client's fault; and the
    log has no error. The first byte says which it is, and whether the rest is the body itself or what it is made of."""
    _server().ask(data)


@cache
def _server() -> Server:
    return Server()


class Server(logging.Handler):
    """ARK with the echo, and its log."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._loop = asyncio.new_event_loop()
        self._app = Ark(make_config(models=[MODEL], limits={"body_bytes": BODY}))
        self._problems: list[str] = []
        self._items: list[dict[str, Any]] = [{"role": "user", "content": "a"}]
        """Of earlier responses, sealed reasoning among them."""
        logging.getLogger("ark").addHandler(self)
        self._loop.run_until_complete(self._start())

    def emit(self, record: logging.LogRecord) -> None:
        self._problems.append(f"{record.getMessage()} {record.exc_info}")

    def ask(self, data: bytes) -> None:
        self._problems.clear()
        how, rest = (data[0] if data else 0), data[1:]
        body = rest if how & 1 else self._body(rest)
        run = self._over_socket if how & 2 else self._over_http
        self._loop.run_until_complete(asyncio.wait_for(run(body), LONGEST))
        assert not self._problems, self._problems

    async def _start(self) -> None:
        started = asyncio.Event()

        async def run() -> None:
            async with self._app.lifespan():
                started.set()
                await asyncio.Event().wait()

        self._running = self._loop.create_task(run())
        await started.wait()
        services = self._app.services
        assert services is not None
        for served in services.registry.models:
            await served.ready()
        asked = {"model": "echo", "input": "<think>why</think>\n\nb", "include": ["reasoning.encrypted_content"]}
        status, reply = await self._over_http(json.dumps(asked).encode())
        assert status == 200
        self._items += json.loads(reply)["output"]
        assert any("encrypted_content" in item for item in self._items)

    def _body(self, data: bytes) -> bytes:
        """A request, of as many bytes for its choices as there are."""
        drawn = iter(data)
        body: dict[str, Any] = {"model": "echo", "input": [self._item(drawn) for _ in range(next(drawn, 1) % 6)]}
        for _ in range(next(drawn, 0) % 4):
            body |= MORE[next(drawn, 0) % len(MORE)]
        body["tools"] = [TOOLS[next(drawn, 0) % len(TOOLS)] for _ in range(next(drawn, 0) % 4)]
        return json.dumps(body).encode()

    def _item(self, drawn: Iterator[int]) -> Any:
        number = next(drawn, 0)
        if number >= 224:
            # One that the server has made, with a field changed.
            item = dict(self._items[number % len(self._items)])
            name = list(item)[next(drawn, 0) % len(item)]
            value, place = item[name], next(drawn, 0)
            if isinstance(value, str) and place < len(value):
                item[name] = value[:place] + chr(next(drawn, 65)) + value[place + 1 :]
            return item
        item = {} if number % 13 == 12 else {"type": KINDS[number % 13]}
        for _ in range(next(drawn, 0) % 6):
            item[FIELDS[next(drawn, 0) % len(FIELDS)]] = self._value(drawn)
        return item

    def _value(self, drawn: Iterator[int]) -> Any:
        number = next(drawn, 0)
        if number < 192:
            return TEXTS[number % len(TEXTS)]
        if number < 224:
            count = next(drawn, 0) % 4
            return [{"type": PARTS[next(drawn, 0) % 8], "text": self._value(drawn)} for _ in range(count)]
        return [None, 5, {}, [], True, [TOOLS[0]], [TOOLS[4]], [[]]][number % 8]

    async def _over_http(self, body: bytes) -> tuple[int, bytes]:
        sent: list[dict[str, Any]] = []
        waiting = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if waiting:
                return waiting.pop()
            await asyncio.Event().wait()
            return None

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(self._scope("http", method="POST", scheme="http"), receive, send)
        status: int = sent[0]["status"]
        content = b"".join(message.get("body", b"") for message in sent[1:])
        assert status < 500, (status, content)
        assert b"server_error" not in content, content
        return status, content

    async def _over_socket(self, body: bytes) -> None:
        """Two messages: what is drawn, and a request that shows that the connection still works."""
        last = json.dumps({"type": "response.create", "model": "echo", "input": "end"})
        if body.startswith(b'{"model"'):
            body = b'{"type": "response.create", ' + body[1:]
        first = {"bytes": body} if len(body) % 2 else {"text": body.decode("utf-8", "surrogateescape")}
        waiting = [{"text": last}, first]
        done = asyncio.Event()
        events: list[str] = []

        async def receive() -> Any:
            if waiting:
                return {"type": "websocket.receive", **waiting.pop()} if events else self._connect(events)
            await done.wait()
            return {"type": "websocket.disconnect", "code": 1000}

        async def send(message: Any) -> None:
            events.append(message["type"])
            if message["type"] == "websocket.send":
                event = msgspec.json.decode(message["text"])
                assert event.get("status", 400) < 500, event
                if event["type"] in ("response.completed", "response.incomplete"):
                    said = json.dumps(event["response"]["output"])
                    if '"end"' in said:
                        done.set()

        await self._app(self._scope("websocket", scheme="ws"), receive, send)

    def _connect(self, events: list[str]) -> dict[str, Any]:
        events.append("connected")
        return {"type": "websocket.connect"}

    def _scope(self, kind: str, **more: Any) -> dict[str, Any]:
        return {
            "type": kind,
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "path": "/v1/responses",
            "raw_path": b"/v1/responses",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
            **more,
        }
