"""Clients that leave a real server with a real engine, seen by the engine's own counters."""

from __future__ import annotations

import gc
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import openai
import psutil
import pytest
from running import Running, serve
from tiny_model import save_tiny_llama

from ark.app import create_app
from ark.config import Config, ModelConfig


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path: Path = tmp_path_factory.mktemp("tiny")
    save_tiny_llama(path, context_length=4096)
    model = ModelConfig(name="tiny", path=str(path), engine={"dtype": "float32", "threads": 1})
    with serve(create_app(Config(models=(model,)))) as running:
        yield running


def request(port: int, *, max_tokens: int, content: str = "Tell me everything.") -> socket.socket:
    """A stream that has been asked for, and of which nothing has been read."""
    body = json.dumps(
        {
            "model": "tiny",
            "messages": [{"role": "user", "content": content}],
            "stream": True,
            "ignore_eos": True,
            "max_tokens": max_tokens,
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.sendall(head.encode() + body)
    return client


def read_events(client: socket.socket, count: int) -> None:
    """Read on until `count` events have come."""
    seen = b""
    while seen.count(b"data: ") < count:
        piece = client.recv(65536)
        assert piece, f"the server closed the connection after {seen!r}"
        seen += piece


def test_a_client_that_leaves_stops_its_sequence(server: Running) -> None:
    before = server.settle()
    client = request(server.port, max_tokens=3500)
    read_events(client, 5)
    client.close()
    after = server.settle()
    assert after.jobs_cancelled == before.jobs_cancelled + 1
    assert after.jobs_finished == before.jobs_finished
    # Nothing computes once the job is gone: the counters stand still.
    time.sleep(0.2)
    still = server.status()
    assert (still.steps, still.tokens_generated) == (after.steps, after.tokens_generated)
    assert still.tokens_generated - before.tokens_generated < 3000


def test_a_client_that_leaves_in_prefill_stops_it(server: Running) -> None:
    before = server.settle()
    client = request(server.port, max_tokens=10, content="long ago " * 380)
    # The first event comes at admission, before the prompt is computed.
    read_events(client, 1)
    client.close()
    after = server.settle()
    assert after.jobs_cancelled + after.jobs_finished == before.jobs_cancelled + before.jobs_finished + 1
    assert after.running == 0


def test_others_go_on_when_one_leaves(server: Running) -> None:
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
    ) as client:
        ask = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 200}
        alone = client.chat.completions.create(**ask, temperature=0, extra_body={"ignore_eos": True})
        stream = client.chat.completions.create(**ask, temperature=0, stream=True, extra_body={"ignore_eos": True})
        leaving = request(server.port, max_tokens=3000)
        read_events(leaving, 3)
        leaving.close()
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == alone.choices[0].message.content
    server.settle()


def test_two_hundred_disconnects_leave_memory_and_kv_where_they_were(server: Running) -> None:
    process = psutil.Process()

    def leave(times: int) -> None:
        for _ in range(times):
            client = request(server.port, max_tokens=2000)
            read_events(client, 2)
            client.close()
        server.settle()

    # The first ones warm up what a process allocates once.
    leave(50)
    gc.collect()
    before, memory, files = server.status(), process.memory_info().rss, process.num_fds()
    leave(200)
    gc.collect()
    after = server.status()
    assert after.jobs_cancelled == before.jobs_cancelled + 200
    # What is left is one conversation's state, the same as before: each time its prefix was found again.
    assert after.kv_bytes <= before.kv_bytes + 2_000_000
    assert process.memory_info().rss - memory < 16 * 2**20
    assert process.num_fds() <= files + 5
