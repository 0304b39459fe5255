"""Limits on a real server: rates with OpenAI's own client, clients that do not read, heads that never end."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from asgi_client import ECHO, make_config
from running import Running, serve
from tiny_model import save_tiny_llama

from ark.app import create_app
from ark.engines.chat import BackendStatus

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
MODELS = [
    ECHO | {"context_length": 2_000_000},
    ECHO | {"name": "slow", "engine": {"tokens_per_second": 20}},
]
KEYS: dict[str, dict[str, Any]] = {
    "often": {"requests_per_minute": 40},
    "much": {"tokens_per_minute": 3000},
    "two": {"concurrent_requests": 2},
    "free": {},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path: Path = tmp_path_factory.mktemp("tiny")
    save_tiny_llama(path, context_length=4096)
    tiny = {"name": "tiny", "path": str(path), "engine": {"dtype": "float32", "threads": 1}}
    keys = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **own} for name, own in KEYS.items()]
    app = create_app(make_config(models=[*MODELS, tiny], keys=keys, limits={"write_timeout": 0.5}))
    with serve(app, send_buffer=16_384) as running:
        yield running


@contextmanager
def connected(server: Running, key: str, **options: Any) -> Iterator[openai.OpenAI]:
    given = {"max_retries": 0, "timeout": 30, "_strict_response_validation": True} | options
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, **given) as client:
        yield client


def test_openais_client_waits_as_long_as_it_is_told_and_gets_in(server: Running) -> None:
    with connected(server, "often") as client:
        with pytest.raises(openai.RateLimitError) as caught:  # noqa: PT012
            for _ in range(100):
                client.chat.completions.create(model="echo", messages=HELLO)
        assert caught.value.code == "rate_limit_exceeded"
        headers = caught.value.response.headers
        assert headers["x-ratelimit-limit-requests"] == "40"
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert 0 < int(headers["retry-after-ms"]) <= 1500
        raw = client.with_options(max_retries=1).chat.completions.with_raw_response.create(model="echo", messages=HELLO)
        assert raw.retries_taken == 1
        assert raw.headers["x-ratelimit-remaining-requests"] == "0"


def test_tokens_by_the_minute(server: Running) -> None:
    with connected(server, "much") as client:
        long: list[Any] = [{"role": "user", "content": "x" * 1000}]
        first = client.chat.completions.with_raw_response.create(model="echo", messages=long)
        usage = first.parse().usage
        assert usage is not None
        assert int(first.headers["x-ratelimit-remaining-tokens"]) == pytest.approx(3000 - usage.total_tokens, abs=50)
        assert usage.total_tokens > 2000
        with client.chat.completions.create(model="echo", messages=long, stream=True) as stream:
            for _ in stream:
                pass
        with pytest.raises(openai.RateLimitError, match="3000 tokens per minute"):
            client.chat.completions.create(model="echo", messages=long)


def test_so_many_streams_of_a_key(server: Running) -> None:
    with connected(server, "two") as client, connected(server, "free") as other:
        ask: dict[str, Any] = {
            "model": "slow",
            "messages": [{"role": "user", "content": "hello " * 20}],
            "stream": True,
        }
        streams = [client.chat.completions.create(**ask) for _ in range(2)]
        with pytest.raises(openai.RateLimitError, match="2 requests at once"):
            client.chat.completions.create(model="echo", messages=HELLO)
        assert other.chat.completions.create(model="echo", messages=HELLO).choices[0].message.content == "hello"
        for stream in streams:
            stream.close()
        again = client.with_options(max_retries=5).chat.completions.create(model="echo", messages=HELLO)
        assert again.choices[0].message.content == "hello"


@contextmanager
def deaf(server: Running, **fields: Any) -> Iterator[socket.socket]:
    """A client that asks for a stream and reads nothing of it."""
    body = json.dumps({"messages": HELLO, "stream": True, **fields}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer free\r\n"
    head += "content-type: application/json\r\n"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        yield client


def until_cancelled(server: Running, model: int) -> BackendStatus:
    """Wait for the job that runs to be cancelled; returns the counters then."""
    before = server.status(model)
    deadline = time.monotonic() + 60
    while server.status(model).running == 0:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    after = server.settle(60, model=model)
    assert after.jobs_finished == before.jobs_finished
    return after


def test_a_client_that_does_not_read_is_cut_off(server: Running) -> None:
    content = [{"role": "user", "content": "x" * 20_000}]
    memory = psutil.Process().memory_info().rss
    with deaf(server, model="echo", messages=content, ark_stateful=False) as client:
        until_cancelled(server, 0)
        assert psutil.Process().memory_info().rss - memory < 16 * 2**20
        # What had been sent is still there to be read, and then the end.
        client.settimeout(20)
        received, last = 0, b""
        while piece := client.recv(65536):
            received, last = received + len(piece), piece
    assert 10_000 < received < 500_000
    assert b"[DONE]" not in last


def test_the_engine_stops_for_a_client_that_does_not_read(server: Running) -> None:
    before = server.settle(model=2)
    with deaf(server, model="tiny", ignore_eos=True, max_tokens=3900, logprobs=True, top_logprobs=20):
        after = until_cancelled(server, 2)
        time.sleep(0.2)
        assert server.status(2).steps == after.steps
    assert after.jobs_cancelled == before.jobs_cancelled + 1
    assert after.tokens_generated - before.tokens_generated < 3900


def test_over_http_2_too(server: Running) -> None:
    pytest.importorskip("h2", reason="httpx speaks HTTP/2 with h2")
    body = {"model": "echo", "messages": [{"role": "user", "content": "x" * 20_000}], "stream": True}
    headers = {"authorization": "Bearer free"}
    with (
        httpx.Client(http1=False, http2=True, base_url=server.url, timeout=60, headers=headers) as client,
        client.stream("POST", "/v1/chat/completions", json=body) as stream,
    ):
        assert stream.http_version == "HTTP/2"
        until_cancelled(server, 0)


def test_a_head_that_trickles_is_cut_off(server: Running) -> None:
    """Hypercorn's `keep_alive_timeout`, 5 s, is the time for the whole of a head."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=1) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n")
        for _ in range(30):
            try:
                client.sendall(b"x-more: x\r\n")
                if client.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("the connection is still open")


def test_a_head_that_does_not_end_is_refused(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\n")
        client.sendall(b"x-large: " + b"x" * 65_536)
        assert client.recv(100).startswith(b"HTTP/1.1 431")
