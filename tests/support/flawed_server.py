"""A small OpenAI-compatible server that is correct, except in one way if its URL names a flaw: ``/FLAW/v1``.

It shares no code with ARK, so that ark-conformance is tested against another server.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
import socket
import struct
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import hypercorn.asyncio
import hypercorn.config

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]

KEY, LIMITED = "sk-right", "sk-limited"
RATE, WINDOW = 3, 1.0
"""Requests of the limited key in `WINDOW` seconds."""
BODY_TIMEOUT, BODY_BYTES, QUEUE = 1.0, 16 * 2**20, 64
silent_streams = threading.Event()
"""Set when a stream that never begins was requested."""
_asked: dict[tuple[str, bool], list[float]] = {}
"""Times at which the limited key was served, for each flaw, separately for whole replies and for streams."""
WORDS = ["Hello", " there", ",", " how", " are", " you", "?", " Fine", "."]


ENGINE_FAILED = {"message": "The engine failed.", "type": "server_error", "param": None, "code": "engine_failed"}


class Refused(Exception):
    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        kind = "rate_limit_error" if status == 429 else "invalid_request_error"
        self.error = {"message": message, "type": kind, "param": param, "code": code}


class Reply:
    """One request and its reply; `flaw` names what is wrong with it."""

    def __init__(self, flaw: str, path: str, method: str, headers: dict[str, str], body: bytes | None) -> None:
        """`body` is None if it came too slowly."""
        self.flaw = flaw
        self.path = path
        self.method = method
        self.headers = headers
        self.body = body or b""
        self.slow = body is None
        self.more: list[tuple[str, str]] = []
        """Headers of the reply, in addition to those of every reply."""
        self.id = "chatcmpl-same" if flaw == "one-id-for-all" else f"chatcmpl-{time.monotonic_ns()}"

    async def send(self, send: Send) -> None:
        try:
            self.key = self.headers.get("authorization", "").removeprefix("Bearer ")
            if self.key not in (KEY, LIMITED) and self.flaw != "any-key":
                raise Refused(401, "Wrong key.", code="invalid_api_key")
            if self.slow:
                raise Refused(408, "Too slow.", code="request_timeout")
            if len(self.body) > BODY_BYTES:
                status = 500 if self.flaw == "a-large-body-is-a-fault" else 413
                raise Refused(status, "Too large.", code="request_too_large")
            await self._route(send)
        except Refused as error:
            await self._refuse(send, error)

    async def _refuse(self, send: Send, error: Refused) -> None:
        status, fields = error.status, dict(error.error)
        if self.flaw == "an-error-without-code":
            del fields["code"]
        if self.flaw == "an-error-without-param":
            del fields["param"]
        if self.flaw == "a-traceback" and status == 400:
            fields["message"] = "Traceback (most recent call last): main.py"
        if self.flaw == "a-server-error" and status == 400:
            status = 500
        if self.flaw == "words-that-cannot-be-shown":
            fields["message"] = "Half a character: \ud800. A bell: \a. \x1b[2JAn empty screen."
        body: Any = {"detail": fields["message"]} if self.flaw == "another-error-object" else {"error": fields}
        if self.flaw == "an-error-of-one-word":
            body = {"error": "wrong"}
        if self.flaw == "html" and status == 404:
            await self._whole(send, status, b"<h1>Not found</h1>", "text/html")
        else:
            await self._json(send, body, status)

    async def _route(self, send: Send) -> None:
        if self.path == "/models" and self.flaw in ("no-list", "a-page"):
            kind = "text/html" if self.flaw == "a-page" else "application/json"
            await self._whole(send, 200 if self.flaw == "a-page" else 404, b"<html></html>", kind)
        elif self.path == "/models":
            model = {"id": "right", "object": "model", "created": 1700000000, "owned_by": "me"}
            if self.flaw == "a-model-without-created":
                del model["created"]
            if self.flaw == "details-of-another-kind":
                model["ark"] = "yes"
            await self._json(send, {"object": "list", "data": [model, {**model, "id": "right-embedding"}]})
        else:
            await self._work(send)

    async def _work(self, send: Send) -> None:
        if self.method == "POST":
            self._limit()
        if self.flaw == "one-fault-in-two" and self.headers.get("x-stainless-retry-count") == "0":
            raise Refused(503, "Once more.")
        if self.path == "/chat/completions" and self.method == "POST":
            await self._chat(send)
        elif self.path == "/audio/transcriptions":
            await self._whole(send, 200, b"" if self.flaw == "no-text" else b"Hello.\n", "text/plain")
        elif self.path == "/embeddings":
            await self._embed(send)
        else:
            raise Refused(404, "There is nothing here.")

    def _limit(self) -> None:
        """Refuse requests over the key's rate; the plain key never reaches its own."""
        limited = self.key == LIMITED or self.flaw == "one-rate-for-all-keys"
        now = time.monotonic()
        stream = b'"stream":true' in self.body
        served = _asked.setdefault((self.flaw, stream), [])
        served[:] = [at for at in served if now - at < WINDOW]
        left = max(0, RATE - len(served)) if limited else 99_999
        rate = "plenty" if self.flaw == "a-rate-of-words" else str(RATE if limited else 100_000)
        self.more = [
            ("x-ratelimit-limit-requests", rate),
            ("x-ratelimit-remaining-requests", str(left)),
            ("x-ratelimit-reset-requests", "1m2.5s" if limited else "20ms"),
        ]
        if not limited:
            return
        if not left:
            if self.flaw != "no-word-of-when":
                self.more += [("retry-after", "1"), ("retry-after-ms", "1000")]
            what = "requests at once" if stream else "requests per minute is reached"
            status = 503 if self.flaw == "a-limit-is-a-fault" else 429
            raise Refused(status, f"The limit of {RATE} {what}.", code="rate_limit_exceeded")
        served.append(now)

    def _request(self) -> dict[str, Any]:
        try:
            asked: Any = json.loads(self.body)
        except ValueError:
            raise Refused(400, "This is not JSON.") from None
        if not isinstance(asked, dict):
            raise Refused(400, "This is no object.")
        for name in ("model", "input" if self.path == "/embeddings" else "messages"):
            if name not in asked:
                raise Refused(400, f"{name} is missing.", param=name)
        if not str(asked["model"]).startswith("right") and self.flaw != "any-model":
            raise Refused(404, "There is no such model.", code="model_not_found", param="model")
        if not isinstance(asked.get("messages") or [], list):
            raise Refused(400, "These are no messages.", param="messages")
        if isinstance(asked.get("temperature"), str):
            raise Refused(400, "This is no temperature.", param="temperature")
        if not 0 <= (asked.get("temperature") or 0) <= 2 and self.flaw != "any-temperature":
            raise Refused(400, "Too hot.", param=None if self.flaw == "an-error-of-no-parameter" else "temperature")
        return asked

    async def _chat(self, send: Send) -> None:
        asked = self._request()
        limit = asked.get("max_tokens") or asked.get("max_completion_tokens") or 100
        words = WORDS[:limit] if self.flaw != "any-length" else WORDS
        reason = "length" if len(words) < len(WORDS) else "stop"
        if self.flaw != "any-stop":
            words, reason = cut(words, asked.get("stop"), reason)
        count = 1 if self.flaw == "one-choice" else asked.get("n") or 1
        if count > QUEUE:
            if self.flaw != "no-word-of-when":
                self.more += [("retry-after", "1"), ("retry-after-ms", "1000")]
            code = "rate_limit_exceeded" if self.flaw == "a-queue-like-a-rate" else "queue_full"
            raise Refused(429, "The queue is full.", code=code)
        if len(asked["messages"]) > 4096:
            raise Refused(400, "Too many.", param=None if self.flaw == "an-error-of-no-parameter" else "messages")
        prompt = sum(len(str(message.get("content")).split()) for message in asked["messages"]) + 1
        usage = {"prompt_tokens": prompt, "completion_tokens": len(words), "total_tokens": prompt + len(words)}
        if self.flaw == "usage-that-does-not-add-up":
            usage["total_tokens"] += 1
        if asked.get("stream"):
            usage_asked = bool((asked.get("stream_options") or {}).get("include_usage"))
            await self._stream(send, words, reason, usage, count=count, usage_asked=usage_asked)
            return
        message = {"role": "assistant", "content": "".join(words), "refusal": None}
        if self.flaw == "no-role":
            del message["role"]
        choices = [{"index": i, "message": message, "finish_reason": reason, "logprobs": None} for i in range(count)]
        if self.flaw == "every-index-0":
            choices = [{**choice, "index": 0} for choice in choices]
        created = 1700000000000 if self.flaw == "created-in-milliseconds" else 1700000000
        reply = {"id": self.id, "object": "chat.completion", "created": created, "model": asked["model"]}
        reply |= {"choices": choices, "usage": usage}
        if self.flaw == "another-object":
            reply["object"] = "text_completion"
        if self.flaw == "no-usage":
            del reply["usage"]
        await self._json(send, reply)

    async def _stream(
        self, send: Send, words: list[str], reason: str, usage: dict[str, int], *, count: int, usage_asked: bool
    ) -> None:
        kind = "application/json" if self.flaw == "a-stream-of-another-type" else "text/event-stream"
        await self._start(send, 200, kind)
        await self._linger(send)
        events = list(self._chunks(words, reason, count, usage_asked))
        if usage_asked and self.flaw != "no-usage":
            chunk = self._chunk([], usage)
            if self.flaw == "usage-with-choices":
                chunk["choices"] = [{"index": 0, "delta": {}, "finish_reason": None}]
            events.insert(0 if self.flaw == "usage-first" else len(events), json.dumps(chunk))
        if self.flaw == "usage-unasked" and not usage_asked:
            events.append(json.dumps(self._chunk([], usage)))
        if self.flaw == "a-broken-chunk":
            events[2] = '{"id": "x", "choi'
        if self.flaw == "a-chunk-of-no-form":
            events[2] = '{"choices": "none", "usage": [1]}'
        if self.flaw == "a-chunk-of-another-id":
            events[2] = events[2].replace("chatcmpl-", "chatcmpl-other-")
        if self.flaw == "an-error-in-the-stream":
            events[2:] = [json.dumps({"error": ENGINE_FAILED})]
        if self.flaw == "it-breaks-off":
            del events[len(events) // 2 :]
        elif self.flaw != "no-done":
            events.append("[DONE]")
        if self.flaw == "done-twice":
            events.append("[DONE]")
        if self.flaw == "more-behind-done":
            events.append(events[1])
        name = "event: chunk\n" if self.flaw == "named-events" else ""
        for event in events:
            await send({"type": "http.response.body", "body": f"{name}data: {event}\n\n".encode(), "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _linger(self, send: Send) -> None:
        """Send comments for five seconds."""
        for _ in range(100 if self.flaw == "a-stream-without-end" else 0):
            await send({"type": "http.response.body", "body": b": still here\n\n", "more_body": True})
            await asyncio.sleep(0.05)

    def _chunks(self, words: list[str], reason: str, count: int, usage_asked: bool) -> Iterator[str]:
        usage: Any = None if usage_asked and self.flaw != "usage-is-left-out" else "no"
        for index in range(count):
            deltas: list[dict[str, Any]] = [
                {"role": "assistant", "content": ""},
                *({"content": word} for word in words),
            ]
            if self.flaw == "no-role":
                deltas[0] = {"content": ""}
            if self.flaw == "the-role-in-each-chunk":
                deltas = [{"role": "assistant", **delta} for delta in deltas]
            if self.flaw == "half-a-character":
                deltas[1]["content"] = "\ufffd"
            ends = [None] * len(deltas) + ([] if self.flaw == "no-finish" else [reason])
            if self.flaw == "finish-too-early":
                ends[1] = reason
            pairs = list(zip([*deltas, {}], ends, strict=False))
            if self.flaw == "text-behind-the-end":
                pairs.append(({"content": "!"}, None))
            for delta, end in pairs:
                choice = {"index": index, "delta": delta, "finish_reason": end, "logprobs": None}
                yield json.dumps(self._chunk([choice], usage))

    def _chunk(self, choices: list[Any], usage: Any) -> dict[str, Any]:
        chunk = {"id": self.id, "object": "chat.completion.chunk", "created": 1700000000, "model": "right"}
        return {**chunk, "choices": choices} | ({} if usage == "no" else {"usage": usage})

    async def _embed(self, send: Send) -> None:
        asked = self._request()
        texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
        if not texts or "" in texts:
            raise Refused(400, "There is nothing to embed.", param="input")
        vectors = [self._vector(str(text)) for text in texts]
        if self.flaw == "vectors-in-another-order":
            vectors.reverse()
        order = "big" if self.flaw == "big-endian" else "little"
        shown: list[Any] = list(vectors)
        if asked.get("encoding_format") == "base64" and self.flaw != "no-base64":
            form = ">" if order == "big" else "<"
            shown = [base64.b64encode(struct.pack(f"{form}4f", *vector)).decode() for vector in vectors]
        data = [{"object": "embedding", "index": number, "embedding": vector} for number, vector in enumerate(shown)]
        count = 1 if self.flaw == "usage-of-one" else sum(len(str(text).split()) for text in texts)
        usage = {"prompt_tokens": count, "total_tokens": count + (self.flaw == "usage-that-does-not-add-up")}
        await self._json(send, {"object": "list", "data": data, "model": asked["model"], "usage": usage})

    def _vector(self, text: str) -> list[float]:
        seed = zlib.crc32(text.encode())
        if self.flaw == "another-vector-each-time":
            seed += time.monotonic_ns() % 1000
        values = [math.sin(seed + number) + 0.01 for number in range(4)]
        length = math.hypot(*values) if self.flaw != "vectors-of-any-length" else 0.7
        return [value / length for value in values]

    async def _json(self, send: Send, value: Any, status: int = 200) -> None:
        await self._whole(send, status, json.dumps(value).encode(), "application/json")

    async def _whole(self, send: Send, status: int, body: bytes, kind: str) -> None:
        await self._start(send, status, kind)
        await send({"type": "http.response.body", "body": body, "more_body": False})

    async def _start(self, send: Send, status: int, kind: str) -> None:
        headers = [(b"content-type", kind.encode()), (b"x-request-id", self.id.encode())]
        headers += [(name.encode(), value.encode()) for name, value in self.more]
        if self.flaw == "no-request-id":
            del headers[1]
        await send({"type": "http.response.start", "status": status, "headers": headers})


def cut(words: list[str], stop: str | list[str] | None, reason: str) -> tuple[list[str], str]:
    """The words before the first stop string, and the finish reason."""
    text = "".join(words)
    ends = [at for one in ([stop] if isinstance(stop, str) else stop or []) if (at := text.find(one)) >= 0]
    return ([text[: min(ends)]], "stop") if ends else (words, reason)


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    _, flaw, _, path = scope["path"].split("/", 3)
    body = await _read(receive, flaw)
    if _is_silent(flaw, path, body or b""):
        # Until the client disconnects.
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
    await Reply(flaw, f"/{path}", scope["method"], headers, body).send(send)


def _is_silent(flaw: str, path: str, body: bytes) -> bool:
    """Whether nothing is ever answered."""
    if flaw == "silent-streams" and b'"stream":true' in body:
        silent_streams.set()
        return True
    if flaw != "silence":
        return False
    # The models are listed once.
    before = _asked.setdefault((flaw, False), [])
    before.append(0.0)
    return len(before) > 1


async def _read(receive: Receive, flaw: str) -> bytes | None:
    """The body; None if it comes too slowly. It is read to its end, or the client might lose the reply."""
    pieces, more, slowest = [], True, 0.0
    begun = last = time.monotonic()
    while more:
        message = await receive()
        now = time.monotonic()
        slowest = max(slowest, now - (begun if flaw == "one-time-for-all-of-a-body" else last))
        last = now
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return None if slowest > BODY_TIMEOUT and flaw != "patience-without-end" else b"".join(pieces)


@contextmanager
def serve_plain(asgi: Any) -> Iterator[str]:
    """Serve any ASGI application until the block ends; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = hypercorn.config.Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.accesslog = config.errorlog = None
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    served = hypercorn.asyncio.serve(asgi, config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]
    thread = threading.Thread(target=loop.run_until_complete, args=(served,), daemon=True)
    thread.start()
    try:
        for _ in range(5000):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()
