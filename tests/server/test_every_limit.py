"""Every limit of `[limits]` over the wire, on every route that it holds for, with all that a 429 says."""

from __future__ import annotations

import gzip
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from asgi_client import ECHO, make_config
from running import Running, serve
from wire import connected, head, post, read_reply
from written_speech import recording

from ark.app import create_app
from ark.config import LimitsConfig

LIMITS: dict[str, Any] = {
    "body_bytes": 3000,
    "upload_bytes": 2000,
    "audio_seconds": 60,
    "body_timeout": 0.3,
    "body_total_timeout": 1.0,
    "json_depth": 6,
    "json_values": 300,
    "messages": 3,
    "generation_seconds": 0.5,
    "string_length": 50,
    "array_items": 5,
    "write_timeout": 0.5,
    "concurrent_requests": 4,
    "key_concurrent_requests": 2,
    "key_requests_per_minute": 3,
    "key_tokens_per_minute": 100,
}
ELSEWHERE = {
    "header_timeout": "tests/server/faults/test_heads.py",
    "string_length": "tests/server/test_tool_formats.py",
    "array_items": "tests/server/test_tool_formats.py",
    "write_timeout": "tests/server/test_limits.py",
}
FREE = {"concurrent_requests": 0, "requests_per_minute": 0, "tokens_per_minute": 0}
KEYS: Mapping[str, Mapping[str, int]] = {
    "free": FREE,
    "other": FREE,
    "often": {**FREE, "requests_per_minute": 3},
    "much": {"concurrent_requests": 0, "requests_per_minute": 0},
    "two": {"requests_per_minute": 0, "tokens_per_minute": 0},
}
"""A limit that is not given is the general one."""

MODELS: list[dict[str, Any]] = [
    ECHO,
    ECHO | {"name": "slow", "engine": {"tokens_per_second": 20}},
    ECHO | {"name": "stuck", "engine": {"prefill_seconds": 600}, "max_queue": 3},
    ECHO | {"name": "stuck too", "engine": {"prefill_seconds": 600}},
    {"name": "words", "task": "embedding", "backend": "hash_embeddings:HashEmbeddings"},
    {"name": "pairs", "task": "rerank", "backend": "word_reranker:WordReranker"},
    {"name": "speech", "task": "transcription", "backend": "written_speech:WrittenSpeech"},
]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    keys = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **own} for name, own in KEYS.items()]
    with serve(create_app(make_config(models=MODELS, keys=keys, limits=LIMITS))) as running:
        yield running


def test_none_is_left_out() -> None:
    assert {*LIMITS} | {*ELSEWHERE} == {*LimitsConfig.__struct_fields__}


def chat(server: Running, key: str = "free", **fields: Any) -> httpx.Response:
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}], **fields}
    return send(server, "/chat/completions", key, json=body)


def embed(server: Running, key: str = "free", **fields: Any) -> httpx.Response:
    return send(server, "/embeddings", key, json={"model": "words", "input": "hello", **fields})


def rerank(server: Running, key: str = "free", **fields: Any) -> httpx.Response:
    body = {"model": "pairs", "query": "hello", "documents": ["hello"], **fields}
    return send(server, "/rerank", key, json=body)


def transcribe(server: Running, key: str = "free", route: str = "transcriptions", **fields: Any) -> httpx.Response:
    file = fields.pop("file", recording("0 1 hello"))
    return send(server, f"/audio/{route}", key, data={"model": "speech", **fields}, files={"file": ("a.wav", file)})


def translate(server: Running, key: str = "free", **fields: Any) -> httpx.Response:
    return transcribe(server, key, "translations", **fields)


def send(server: Running, path: str, key: str, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{server.url}/v1{path}", headers=headers, timeout=60, **body)


Ask = Callable[..., httpx.Response]
WORK: list[Ask] = [chat, embed, rerank, transcribe, translate]


PATHS = ["/chat/completions", "/embeddings", "/rerank", "/audio/transcriptions", "/audio/translations"]


def refused(reply: httpx.Response, status: int, code: str) -> dict[str, Any]:
    error: dict[str, Any] = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (status, code), reply.text
    assert {*error} == {"message", "type", "param", "code"}
    assert reply.headers["x-request-id"]
    return error


@pytest.mark.parametrize("ask", WORK)
def test_what_is_within_all_of_them(server: Running, ask: Ask) -> None:
    assert ask(server).status_code == 200


@pytest.mark.parametrize("ask", [chat, embed, rerank])
def test_body_bytes(server: Running, ask: Ask) -> None:
    assert ask(server, user="x" * 2800).status_code == 200
    refused(ask(server, user="x" * 3000), 413, "request_too_large")


@pytest.mark.parametrize("ask", [transcribe, translate])
def test_upload_bytes(server: Running, ask: Ask) -> None:
    assert ask(server, prompt="x" * 1000).status_code == 200
    refused(ask(server, prompt="x" * 2000), 413, "request_too_large")
    refused(ask(server, file=recording("0 1 " + "x" * 2000)), 413, "request_too_large")


@pytest.mark.parametrize("path", ["/models", "/sessions", "/metrics", "/health", "/ready", "/openapi.json"])
def test_the_body_of_a_route_that_reads_none(server: Running, path: str) -> None:
    for size, status in ((60_000, 200), (70_000, 413)):
        headers = {"authorization": "Bearer free"}
        reply = httpx.request("GET", f"{server.url}{path}", headers=headers, content=b"x" * size, timeout=60)
        assert reply.status_code == status


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_is_packed_is_not_unpacked(server: Running, path: str) -> None:
    """It could be a thousand times as large as its limit."""
    kind = "multipart/form-data; boundary=x" if "audio" in path else "application/json"
    packed = gzip.compress(b"{}")
    reply = httpx.post(
        f"{server.url}/v1{path}",
        content=packed,
        headers={"authorization": "Bearer free", "content-type": kind, "content-encoding": "gzip"},
        timeout=60,
    )
    assert "gzip" in refused(reply, 415, "unsupported_media_type")["message"]


@pytest.mark.parametrize("ask", [transcribe, translate])
def test_audio_seconds(server: Running, ask: Ask) -> None:
    assert ask(server, file=recording("0 60 hello")).status_code == 200
    assert ask(server, file=recording("0 61 hello")).status_code == 400


@pytest.mark.parametrize("path", PATHS)
def test_body_timeouts(server: Running, path: str) -> None:
    """One pause that is too long, and pieces that come in time and are too many."""
    form = "audio" in path
    kind = "multipart/form-data; boundary=x" if form else "application/json"
    begun = head("POST", f"/v1{path}", "authorization: Bearer free", f"content-type: {kind}", "content-length: 900")
    begun += b'--x\r\ncontent-disposition: form-data; name="prompt"\r\n\r\n' if form else b"{"
    for more in (b"", b" "):
        with connected(server.port, timeout=0.1) as connection:
            connection.sendall(begun)
            seen = b""
            for _ in range(80):
                try:
                    connection.sendall(more)
                    seen = connection.recv(65536)
                    break
                except TimeoutError:
                    continue
            connection.settimeout(30)
            status, body, _ = read_reply(connection, seen)
            assert (status, json.loads(body)["error"]["code"]) == (408, "request_timeout")


def deep(levels: int) -> Any:
    return [deep(levels - 1)] if levels else 1


@pytest.mark.parametrize("ask", [chat, embed])
def test_json_depth(server: Running, ask: Ask) -> None:
    """In parts that nobody reads, too."""
    assert ask(server, nothing=deep(5)).status_code == 200
    refused(ask(server, nothing=deep(6)), 400, "invalid_json")


@pytest.mark.parametrize("ask", [chat, embed])
def test_json_values(server: Running, ask: Ask) -> None:
    assert ask(server, nothing=[1] * 200).status_code == 200
    refused(ask(server, nothing=[1] * 301), 400, "invalid_json")
    refused(ask(server, nothing=[[]] * 30), 400, "invalid_json")


def test_messages(server: Running) -> None:
    message = {"role": "user", "content": "hello"}
    assert chat(server, messages=[message] * 3).status_code == 200
    assert refused(chat(server, messages=[message] * 4), 400, "array_above_max_length")["param"] == "messages"


@pytest.mark.parametrize("stream", [False, True])
def test_generation_seconds(server: Running, stream: bool) -> None:
    reply = chat(server, model="slow", messages=[{"role": "user", "content": "hello" * 100}], stream=stream)
    assert reply.status_code == 200
    assert '"finish_reason":"length"' in reply.text


def comes_again(reply: httpx.Response) -> None:
    """Whole seconds for everyone, and finer for OpenAI's client: never less than it takes."""
    seconds, ms = int(reply.headers["retry-after"]), int(reply.headers["retry-after-ms"])
    assert 0 < ms <= seconds * 1000


@pytest.mark.parametrize("ask", WORK)
def test_key_requests_per_minute(server: Running, ask: Ask) -> None:
    """The routes share what a key has."""
    while ask(server, "often").status_code == 200:
        pass
    for other in WORK:
        reply = other(server, "often")
        refused(reply, 429, "rate_limit_exceeded")
        comes_again(reply)
        assert reply.headers["x-ratelimit-limit-requests"] == "3"
        assert reply.headers["x-ratelimit-remaining-requests"] == "0"
        assert reply.headers["x-ratelimit-reset-requests"]
    assert ask(server, "free").status_code == 200


def test_key_tokens_per_minute(server: Running) -> None:
    while (reply := embed(server, "much", input="hello " * 300)).status_code == 200:
        pass
    refused(reply, 429, "rate_limit_exceeded")
    comes_again(reply)
    assert reply.headers["x-ratelimit-limit-tokens"] == "100"
    refused(chat(server, "much"), 429, "rate_limit_exceeded")


def test_the_places(server: Running) -> None:
    """Those of a key, of a model's queue and of the whole server: one after the other, and free again behind it."""
    with ExitStack() as opened:

        def hold(model: str, key: str, held: int) -> None:
            body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
            opened.enter_context(connected(server.port)).sendall(post(body, f"authorization: Bearer {key}"))
            until(lambda: places(server) == held)

        hold("stuck", "two", 1)
        hold("stuck", "two", 2)
        for ask in WORK:
            reply = ask(server, "two")
            refused(reply, 429, "rate_limit_exceeded")
            comes_again(reply)
        hold("stuck", "free", 3)
        reply = chat(server, model="stuck")
        assert reply.status_code == 429
        comes_again(reply)
        hold("stuck too", "free", 4)
        for ask in WORK:
            reply = ask(server)
            refused(reply, 503, "overloaded")
            comes_again(reply)
    until(lambda: places(server) == 0)
    for ask in WORK:
        assert ask(server, "two").status_code == 200


def places(server: Running) -> int:
    services = server.app.services
    assert services is not None
    return services.limiter.running


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
