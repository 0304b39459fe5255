"""One client of the soak: conversations, embeddings, transcriptions, and requests for information."""

from __future__ import annotations

import base64
import json
import random
import uuid
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
from book import Book
from talk import Script, Turn, is_right, secret_word

CHAT = "gpt-4o"
EMBEDDING = "text-embedding-3-small"

CLOSE_ENOUGH = 1e-4
"""Largest difference of a number from the reference's: the batch that a text is computed in changes the last bits."""

Mode = Literal["named", "cookie", "append", "stateless"]
MODES: tuple[Mode, ...] = ("named", "cookie", "append", "stateless")
"""`ark_stateful` with an id; the cookie and the whole conversation; the cookie and the new message only; no session."""


@dataclass(frozen=True)
class Answer:
    status: int
    content: str = ""
    reasoning: str | None = None


@dataclass
class Reference:
    """The server's answers while no other request ran."""

    scripts: list[Script]
    texts: list[str]
    vectors: list[array[float]]
    recordings: Mapping[str, bytes] = field(default_factory=dict)
    """By the file's name; empty if no model transcribes."""
    transcriptions: dict[str, str] = field(default_factory=dict)


class Client:
    """One client with one key and kept connections."""

    def __init__(self, url: str, key: str, book: Book, draw: random.Random) -> None:
        self.book = book
        self.draw = draw
        self.http = httpx.AsyncClient(
            base_url=f"{url}/v1",
            headers={"authorization": f"Bearer {key}"},
            timeout=600,
            # Below the 5 s after which the server closes a connection that is not used.
            limits=httpx.Limits(keepalive_expiry=3),
        )

    async def post(self, path: str, **body: Any) -> httpx.Response:
        reply = await self.http.post(path, json=body)
        self.book.statuses[reply.status_code] += 1
        return reply

    async def ask(self, turn: Turn, *, stream: bool = False, **more: Any) -> Answer:
        sampling: dict[str, Any] = {"temperature": 0} if turn.seed is None else {"temperature": 1, "seed": turn.seed}
        body = {"model": CHAT, "max_tokens": 120, "stream": stream, **sampling, **more}
        if not stream:
            reply = await self.post("/chat/completions", **body)
            if reply.status_code != 200:
                return Answer(reply.status_code, reply.text)
            message = reply.json()["choices"][0]["message"]
            return Answer(200, message["content"] or "", message.get("reasoning_content"))
        return await self._streamed(body)

    async def _streamed(self, body: dict[str, Any]) -> Answer:
        content, reasoning, last = [], [], ""
        async with self.http.stream("POST", "/chat/completions", json=body) as reply:
            self.book.statuses[reply.status_code] += 1
            if reply.status_code != 200:
                return Answer(reply.status_code, (await reply.aread()).decode("utf-8", "replace"))
            async for line in reply.aiter_lines():
                if not line.startswith("data: "):
                    continue
                last = line.removeprefix("data: ")
                if last == "[DONE]":
                    break
                event = json.loads(last)
                if "error" in event:
                    return Answer(500, last)
                for choice in event["choices"]:
                    content.append(choice["delta"].get("content") or "")
                    reasoning.append(choice["delta"].get("reasoning_content") or "")
        if last != "[DONE]":
            return Answer(500, f"the stream ended with {last!r}")
        return Answer(200, "".join(content), "".join(reasoning) or None)

    async def embed(self, texts: list[str]) -> list[array[float]]:
        reply = await self.post("/embeddings", model=EMBEDDING, input=texts, encoding_format="base64")
        if reply.status_code != 200:
            raise RuntimeError(f"{reply.status_code} {reply.text}")
        return [array("f", base64.b64decode(one["embedding"])) for one in reply.json()["data"]]

    async def transcribe(self, name: str, audio: bytes) -> str:
        # Without a temperature of 0, a model that is not sure tries others, at random.
        fields = {"model": "whisper-1", "temperature": "0"}
        reply = await self.http.post("/audio/transcriptions", data=fields, files={"file": (name, audio)})
        self.book.statuses[reply.status_code] += 1
        if reply.status_code != 200:
            raise RuntimeError(f"{reply.status_code} {reply.text}")
        text: str = reply.json()["text"]
        return text

    async def close(self) -> None:
        await self.http.aclose()


class Conversation:
    """A script that is held in one of the ways in which a session can be used."""

    def __init__(self, client: Client, script: Script, mode: Mode) -> None:
        self.client = client
        self.script = script
        self.mode = mode
        self.session = str(uuid.uuid4())
        self.history: list[dict[str, str]] = []
        client.http.cookies.clear()

    def fields(self, text: str) -> dict[str, Any]:
        """How a request names its session, and its messages."""
        new = {"role": "user", "content": text}
        if self.mode == "named":
            return {"messages": [new], "ark_stateful": self.session}
        if self.mode == "append":
            return {"messages": [new], "ark_stateful": True}
        whole: dict[str, Any] = {"messages": [*self.history, new]}
        return whole if self.mode == "cookie" else whole | {"ark_stateful": False}

    async def take(self, turn: Turn, *, stream: bool) -> Answer:
        answer = await self.client.ask(turn, stream=stream, **self.fields(turn.text))
        self.heard(turn, answer)
        return answer

    def heard(self, turn: Turn, answer: Answer) -> None:
        self.history += [
            {"role": "user", "content": turn.text},
            {"role": "assistant", "content": answer.content},
        ]

    async def messages(self) -> int:
        """The number of messages of a named session, once none of its turns runs; 0 if it does not exist."""
        reply = await self.client.http.get(f"/sessions/{self.session}")
        self.client.book.statuses[reply.status_code] += 1
        if reply.status_code == 404:
            return 0
        found = reply.json()
        return -1 if found["running"] else int(found["messages"])


async def hold_alone(client: Client, script: Script) -> bool:
    """Note the answers of a server that has nothing else to do. False when the model itself does not know them."""
    conversation = Conversation(client, script, "named")
    script.answers = []
    for number, turn in enumerate(script.turns):
        answer = await conversation.take(turn, stream=False)
        if answer.status != 200:
            raise RuntimeError(f"{answer.status} {answer.content}")
        if script.secret and number == 0:
            script.word = secret_word(answer.reasoning) or ""
        script.answers.append(answer.content)
        if not is_right(script, number, answer.content):
            return False
    return True
