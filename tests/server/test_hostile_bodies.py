"""Bodies below the limit of their size that once took gigabytes, and the event loop for seconds."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from process import ECHO_TOML
from serving import Server, serving

SIZE = 16_000_000
WORDS = '[[models]]\nname = "words"\ntask = "embedding"\nbackend = "hash_embeddings:HashEmbeddings"\n'
SPARE = 96 << 20
"""Bytes beside eight times the body's own, for what a server takes anyway."""


def many(item: str) -> str:
    return "[" + ",".join([item] * (SIZE // (len(item) + 1))) + "]"


def chat(**fields: Any) -> str:
    return json.dumps({"model": "echo", "messages": [{"role": "user", "content": "hello"}], **fields})


def call(arguments: str, *, count: int = 1) -> str:
    called = {"id": "1", "function": {"name": "f", "arguments": arguments}}
    return chat(messages=[{"role": "assistant", "tool_calls": [called] * count}])


def unread(value: str) -> str:
    return f'{chat()[:-1]}, "metadata": {value}}}'


def embed(value: str) -> str:
    return f'{{"model": "words", "input": {value}}}'


BODIES: dict[str, tuple[str, Callable[[], str]]] = {
    "lists of an id": ("/v1/embeddings", lambda: embed(many("[1]"))),
    "ids": ("/v1/embeddings", lambda: embed(many("1234567"))),
    "short texts": ("/v1/embeddings", lambda: embed(many('"ab"'))),
    "texts of brackets": ("/v1/embeddings", lambda: embed(many('"[["'))),
    "quotes": ("/v1/embeddings", lambda: embed(many(r'"\""'))),
    "lists that nobody reads": ("/v1/chat/completions", lambda: unread(many("[[]]"))),
    "objects that nobody reads": ("/v1/chat/completions", lambda: unread(many('{"a":{}}'))),
    "numbers": ("/v1/chat/completions", lambda: chat()[:-1] + f', "chat_template_kwargs": {{"a": {many("0.5")}}}}}'),
    "lists in arguments": ("/v1/chat/completions", lambda: call(many("[[1]]"))),
    "lists in a text of arguments": ("/v1/chat/completions", lambda: call(json.dumps(many("[]")))),
    "many calls": ("/v1/chat/completions", lambda: call(f"[{'[],' * 4000}[]]", count=400)),
    "as many lists as there may be": (
        "/v1/chat/completions",
        lambda: chat(chat_template_kwargs={"a": [[]] * 49_000}),
    ),
    "as many ids as there may be": ("/v1/embeddings", lambda: embed(json.dumps([1_234_567] * 490_000))),
    "a schema": (
        "/v1/chat/completions",
        lambda: (
            chat()[:-1] + f', "tools": [{{"type": "function", "function": {{"name": "f", "parameters": '
            f'{{"enum": {many("[1]")}}}}}}}]}}'
        ),
    ),
    "escapes that are none": ("/v1/chat/completions", lambda: unread('"' + r"\ud8" * (SIZE // 4) + '"')),
    "backslashes": ("/v1/chat/completions", lambda: unread('"' + "\\" * (SIZE // 2 * 2) + '"')),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("hostile"), ECHO_TOML + WORDS) as running:
        yield running


def memory(server: Server, name: str) -> int:
    """``VmRSS`` of the server's process, or ``VmHWM``, the most since it was last forgotten; bytes."""
    status = Path(f"/proc/{server.pid}/status").read_text()
    return 1024 * int(status.partition(f"{name}:")[2].split()[0])


@pytest.mark.parametrize("name", BODIES)
def test_a_body_takes_no_more_than_a_few_times_its_size(server: Server, name: str) -> None:
    path, make = BODIES[name]
    body = make().encode()
    assert len(body) < 16 << 20
    Path(f"/proc/{server.pid}/clear_refs").write_text("5")
    before = memory(server, "VmRSS")
    done, slowest = threading.Event(), 0.0

    def watch() -> None:
        nonlocal slowest
        while not done.is_set():
            begun = time.monotonic()
            assert server.client.get("/health").status_code == 200
            slowest = max(slowest, time.monotonic() - begun)
            done.wait(0.005)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        reply = server.client.post(path, content=body, headers={"content-type": "application/json"})
    finally:
        done.set()
        watching.join()
    peak = memory(server, "VmHWM") - before
    print(f"{name}: {len(body) >> 20} MB, {reply.status_code}, {peak / len(body):.1f} times, {1000 * slowest:.0f} ms")
    assert reply.status_code in (200, 400), reply.text[:500]
    assert peak < 8 * len(body) + SPARE
