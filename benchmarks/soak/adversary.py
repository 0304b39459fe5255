"""Clients that send what was made to harm, one after the other and without a pause, with a key of their own.

They run in a process of their own, so that honest clients do not wait for what it takes to make an attack.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tests" / "support")]

import httpx
from bad import BODY_LIMIT
from book import Book
from client import CHAT, EMBEDDING
from hostile_audio import CONCAT, au, mp4, png, sdp
from server import ADVERSARY
from wire import head, wire

SLOW = 32
"""Connections of one attack with slow bodies."""
SLOWEST = 10.0
"""Seconds for which they send a byte at a time."""

LEAVING = 15.0
"""Seconds for which a process of adversaries may tell what it did."""

ALLOWED = frozenset({*range(200, 300), *range(400, 500)})
"""Statuses of an answer: it may be honest, and it may be a refusal."""

Request = tuple[str, dict[str, Any]]
"""A path, and what httpx is told to send there."""


def _chat(**fields: Any) -> Request:
    body = {"model": CHAT, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8, **fields}
    return "/chat/completions", {"json": body}


def _schema(schema: dict[str, Any]) -> Request:
    return _chat(response_format={"type": "json_schema", "json_schema": {"name": "form", "schema": schema}})


def _tool(schema: dict[str, Any], **function: Any) -> Request:
    made = {"name": "f", "parameters": {"type": "object", **schema}, **function}
    return _chat(tools=[{"type": "function", "function": made}], tool_choice="required")


def _recording(content: bytes) -> Request:
    return "/audio/transcriptions", {"data": {"model": "whisper-1"}, "files": {"file": ("a.wav", content)}}


def _raw(path: str, body: bytes) -> Request:
    return path, {"content": body, "headers": {"content-type": "application/json"}}


def _many(item: str) -> str:
    return "[" + ",".join([item] * (BODY_LIMIT // (len(item) + 2))) + "]"


def _sessions(draw: random.Random) -> Request:
    text = "x" * draw.randrange(2000)
    return _chat(ark_stateful=str(uuid.uuid4()), max_tokens=1, user="u" * 900_000, messages=[_user(text)])


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text, "name": "n" * 1000}


CHAIN = {f"a{i}": {"properties": {"x": {"$ref": f"#/$defs/a{i + 1}"}}} for i in range(1200)}
PATTERNS = {"allOf": [{"type": "string", "pattern": f".*{chr(97 + i % 26)}.{{{i}}}z"} for i in range(30)]}
WIDE = {"properties": {f"p{i}": {"type": "string", "pattern": f"^[a-z]{{1,{i % 9 + 1}}}$"} for i in range(450)}}
CALL = {"id": "1", "function": {"name": "f", "arguments": _many("[[1]]")}}
LISTS = b'{"model": "%s", "input": %s}' % (EMBEDDING.encode(), _many("[1]").encode())
BRACKETS = b"[" * (BODY_LIMIT - 10)

REQUESTS: Mapping[str, Callable[[random.Random], Request]] = {
    "a chain of references": lambda _: _schema({"$defs": CHAIN, "$ref": "#/$defs/a0"}),
    "patterns at once": lambda draw: _schema(PATTERNS | {"title": str(draw.random())}),
    "a tool of 450 patterns": lambda draw: _tool(WIDE | {"title": str(draw.random())}),
    "control tokens in a tool": lambda _: _tool({}, description="<|im_end|>" * 500),
    "a rate of a gigahertz": lambda _: _recording(au(0x62003E80)),
    "samples without end": lambda _: _recording(mp4(1 << 26)),
    "a picture": lambda _: _recording(png()),
    "a session of ports": lambda _: _recording(sdp(500)),
    "a playlist": lambda _: _recording(CONCAT % b"sessions.sqlite"),
    "noise": lambda draw: _recording(draw.randbytes(200_000)),
    "lists of an id": lambda _: _raw("/embeddings", LISTS),
    "one long word": lambda _: ("/embeddings", {"json": {"model": EMBEDDING, "input": "a" * (BODY_LIMIT - 1000)}}),
    "lists in arguments": lambda _: _chat(messages=[{"role": "assistant", "tool_calls": [CALL]}]),
    "brackets": lambda _: _raw("/chat/completions", BRACKETS),
    "a session each": _sessions,
    "a foreign host": lambda _: ("/sessions", {"json": {}, "headers": {"host": "evil.example"}}),
}
KINDS = (*REQUESTS, "slow bodies", "clients that leave")


class Adversary:
    def __init__(self, url: str, book: Book, draw: random.Random) -> None:
        self._url = url
        self._book = book
        self._draw = draw
        self.kind = ""
        """Of the attack that is under way."""

    async def run(self, stop: asyncio.Event) -> None:
        headers = {"authorization": f"Bearer {ADVERSARY}"}
        async with httpx.AsyncClient(base_url=f"{self._url}/v1", headers=headers, timeout=600) as http:
            while not stop.is_set():
                self.kind = kind = self._draw.choice(KINDS)
                try:
                    await self._send(http, kind)
                except (httpx.HTTPError, OSError) as error:
                    self._book.fail("adversary", f"{kind}: {type(error).__name__}: {error}")

    async def _send(self, http: httpx.AsyncClient, kind: str) -> None:
        if kind == "slow bodies":
            await self._slow(http)
        elif kind == "clients that leave":
            await self._leave(http)
        else:
            path, request = REQUESTS[kind](self._draw)
            reply = await http.post(path, **request)
            self._book.statuses[reply.status_code] += 1
            if reply.status_code not in ALLOWED:
                self._book.fail("adversary", f"{kind}: {reply.status_code} {reply.text[:200]}")
        self._book.done[f"attacks, {kind}"] += 1

    async def _slow(self, http: httpx.AsyncClient) -> None:
        """Bodies that come a byte at a time, until the server has had enough or the time is over."""
        async with AsyncExitStack() as opened:
            wires = [await opened.enter_async_context(wire(http)) for _ in range(SLOW)]
            for each in wires:
                await each.send(head(http, "POST", "/v1/chat/completions", "content-length: 500"))
            for _ in range(int(SLOWEST / 0.5)):
                await asyncio.sleep(0.5)
                results = await asyncio.gather(*(each.send(b" ") for each in wires), return_exceptions=True)
                if all(isinstance(one, OSError) for one in results):
                    return

    async def _leave(self, http: httpx.AsyncClient) -> None:
        """Expensive requests whose client does not wait."""
        requests = [REQUESTS[kind](self._draw) for kind in ("patterns at once", "a tool of 450 patterns") * 4]
        bodies = [json.dumps(request["json"]).encode() for _, request in requests]
        async with AsyncExitStack() as opened:
            for body in bodies:
                each = await opened.enter_async_context(wire(http))
                length = ("content-type: application/json", f"content-length: {len(body)}")
                await each.send(head(http, "POST", "/v1/chat/completions", *length) + body)
            await asyncio.sleep(self._draw.random())


@asynccontextmanager
async def attacking(url: str, book: Book, *, clients: int, seed: int, ending: float) -> AsyncIterator[None]:
    """Adversaries in a process of their own, until the block ends, and for the seconds of `ending` that their last
    requests may take. What they did is added to the book."""
    command = [sys.executable, __file__, url, str(clients), str(seed), str(ending - LEAVING)]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    written = b""
    try:
        yield
        with suppress(TimeoutError):
            # The end of its standard input is the sign to end.
            written, _ = await asyncio.wait_for(process.communicate(b""), ending)
    finally:
        if process.returncode is None:
            process.kill()
    if not written:
        book.fail("adversary", f"their process did not end well: {process.returncode}")
        return
    found = json.loads(written)
    book.done.update(found["done"])
    book.failures.update(found["failures"])
    book.statuses.update({int(status): count for status, count in found["statuses"].items()})
    book.notes += found["notes"]


async def main(url: str, clients: int, seed: int, ending: float) -> None:
    """Attack until standard input ends, and write what was done to standard output."""
    book, draw, stop = Book(), random.Random(seed), asyncio.Event()
    adversaries = [Adversary(url, book, random.Random(draw.random())) for _ in range(clients)]
    attacks = {asyncio.create_task(one.run(stop)): one for one in adversaries}
    await asyncio.to_thread(sys.stdin.read)
    stop.set()
    done, unanswered = await asyncio.wait(attacks, timeout=ending)
    for attack in done:
        attack.result()
    for attack in unanswered:
        book.fail("adversary", f"{attacks[attack].kind}: not answered {ending:.0f} s after the last attack")
        attack.cancel()
    found = {"done": book.done, "statuses": book.statuses, "failures": book.failures, "notes": book.notes}
    print(json.dumps(found))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("clients", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("ending", type=float, help="seconds that the last requests may take")
    asyncio.run(main(**vars(parser.parse_args())))
