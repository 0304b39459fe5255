"""What one key learns of another, and what a server tells of its requests in logs, metrics and errors."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import canaries
import httpx
import pytest
from asgi_client import ECHO, make_config
from hpack import Encoder
from process import ECHO_TOML
from running import Running, serve
from serving import Server, serving
from tiny_model import save_tiny_llama
from wire import connected, head, post, read_to_the_end

from ark.app import create_app

KEYS = ("alice", "bob")
LONG = "a story that both of them know very well " * 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    path: Path = tmp_path_factory.mktemp("tiny")
    save_tiny_llama(path, context_length=4096)
    tiny = {"name": "tiny", "path": str(path), "engine": {"dtype": "float32", "threads": 1}}
    keys = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name in KEYS]
    with serve(create_app(make_config(models=[tiny, ECHO], keys=keys))) as running:
        yield running


def ask(server: Running, key: str, content: str, **more: Any) -> httpx.Response:
    body = {"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 2, "temperature": 0}
    headers = {"authorization": f"Bearer {key}"}
    reply = httpx.post(f"{server.url}/v1/chat/completions", json=body | more, headers=headers, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply


def cached(reply: httpx.Response) -> int:
    count: int = reply.json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert reply.headers["x-ark-cached-tokens"] == str(count)
    return count


@pytest.mark.parametrize("stateful", [False, None])
def test_what_one_key_made_the_engine_compute_saves_another_nothing(server: Running, stateful: bool | None) -> None:
    """Neither by what it is told nor by what the engine really did, which is what it could measure by the time."""
    more = {} if stateful is None else {"ark_stateful": stateful}
    content = f"{uuid.uuid4()} {LONG}"
    tokens = ask(server, "alice", content, **more).json()["usage"]["prompt_tokens"]
    before = server.settle()
    again = ask(server, "alice", content, **more)
    middle = server.settle()
    his = ask(server, "bob", content, **more)
    after = server.settle()
    # Her own request is found again; to his it is as if it had never been.
    assert cached(again) >= tokens - 1
    assert middle.prompt_tokens_computed - before.prompt_tokens_computed <= 1
    # What may be found of his own is the beginning that the template gives to every prompt.
    assert cached(his) < 32
    assert after.prompt_tokens_computed - middle.prompt_tokens_computed > tokens - 32
    assert his.json()["choices"] == again.json()["choices"]


def test_a_named_session_of_another_key_is_a_new_one_and_saves_nothing(server: Running) -> None:
    name = str(uuid.uuid4())
    ask(server, "alice", f"{name} {LONG}", ark_stateful=name)
    his = ask(server, "bob", f"{name} {LONG}", ark_stateful=name)
    assert his.headers["x-ark-session"] == f"{name}; created"
    assert cached(his) < 32


def test_a_session_that_is_there_and_one_that_never_was_are_told_apart_by_nothing(server: Running) -> None:
    name, never = str(uuid.uuid4()), str(uuid.uuid4())
    ask(server, "alice", "hello", ark_stateful=name)
    with httpx.Client(base_url=f"{server.url}/v1", headers={"authorization": "Bearer bob"}) as bob:
        for method in ("GET", "DELETE"):
            there, nowhere = bob.request(method, f"/sessions/{name}"), bob.request(method, f"/sessions/{never}")
            assert there.status_code == nowhere.status_code == 404
            assert there.text.replace(name, never) == nowhere.text
            assert {*there.headers} == {*nowhere.headers}
        assert name not in bob.get("/sessions").text
    with httpx.Client(base_url=f"{server.url}/v1", headers={"authorization": "Bearer alice"}) as alice:
        assert alice.get(f"/sessions/{name}").json()["messages"] == 2


MARK = "zorblat-4711-marker"
"""Stands for everything that a client may send and that nobody else should read."""

FAULTY_TOML = """
[[models]]
name = "{fault}-{when}"
backend = "faulty_backend:Faulty"
engine = {{ fault = "{fault}", when = "{when}" }}
"""


@pytest.fixture(scope="module", params=["info", "debug"])
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that was told the marker in every place where a request has text, and answered or refused it."""
    models = ECHO_TOML + '[[models]]\nname = "hash"\ntask = "embedding"\nbackend = "hash_embeddings:HashEmbeddings"\n'
    for fault in ("engine", "bug"):
        models += "".join(FAULTY_TOML.format(fault=fault, when=when) for when in ("admission", "middle"))
    models += '[[models]]\nname = "gone"\nbackend = "faulty_backend:BadAtOpening"\n'
    config = f'[server]\nlog_level = "{request.param}"\n[limits]\nbody_bytes = 20_000\nbody_timeout = 0.3\n{models}'
    with serving(tmp_path_factory.mktemp("told"), config, ready=False) as server:
        tell_everywhere(server)
        yield server


def tell_everywhere(server: Server) -> None:
    """The replies themselves may say it again: they go to whoever sent it."""
    names = ["echo", "engine-admission", "engine-middle", "bug-admission", "bug-middle", "gone"]
    says: list[dict[str, Any]] = [{"role": "system", "content": MARK}, {"role": "user", "content": f"{MARK} {MARK}"}]
    for name in names:
        for more in ({}, {"stream": True}, {"stream": True, "ark_simplified": True}, {"ark_stateful": False}):
            server.client.post("/v1/chat/completions", json={"model": name, "messages": says, **more})
    for fields in (
        {"model": MARK},
        {"temperature": MARK},
        {"ark_stateful": MARK},
        {"stop": [MARK] * 9},
        {"messages": [{"role": MARK, "content": MARK}]},
        {"messages": MARK},
        {"user": MARK, "metadata": {MARK: MARK}},
        {"tools": [{"type": "function", "function": {"name": MARK, "description": MARK}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"name": MARK, "schema": {MARK: MARK}}}},
        {"messages": [*says, {"role": "user", "content": f"{MARK} " * 400}]},
        {"messages": [*says, {"role": "user", "content": f"{MARK} " * 4000}]},
    ):
        server.client.post("/v1/chat/completions", json={"model": "echo", "messages": says, **fields})
    for fields in (
        {"input": MARK},
        {"input": [MARK, ""]},
        {"input": {MARK: MARK}},
        {"input": MARK, "dimensions": MARK},
    ):
        server.client.post("/v1/embeddings", json={"model": "hash", **fields})
    for path in ("/v1/chat/completions", "/v1/embeddings", "/v1/audio/transcriptions", "/v1/audio/translations"):
        for body in (MARK.encode(), b'{"model": "' + MARK.encode(), b"\xff" + MARK.encode()):
            server.client.post(path, content=body, headers={"content-type": f"application/json; x={MARK}"})
        files = {"file": (f"{MARK}.wav", MARK.encode(), "audio/wav")}
        server.client.post(path, files=files, data={"model": MARK, "prompt": MARK})
    server.client.get("/v1/models", params={"q": MARK})
    headers = {"cookie": f"ark_session_id={MARK}; {MARK}={MARK}", "authorization": f"Bearer {MARK}", "x-more": MARK}
    server.client.get("/v1/sessions", headers=headers)
    server.client.post("/v1/chat/completions", json={"model": "echo", "messages": says}, headers=headers)
    slow = post({"model": "echo", "messages": says}, f"x-more: {MARK}")
    upgrade = ("connection: upgrade", "upgrade: h2c", "http2-settings: AAMAAA", f"authorization: Bearer {MARK}")
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
    headers_2 = Encoder().encode(
        [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", f"/{MARK}-ü"), (MARK, MARK)]
    )
    for raw in (
        slow[:-5],
        MARK.encode() + b"\r\n\r\n",
        head("GET", "/health", f"{MARK} no header"),
        head("GET", "/health", *upgrade),
        preface + len(headers_2).to_bytes(3, "big") + b"\1\5\0\0\0\1" + headers_2,
    ):
        with connected(server.port) as connection, suppress(ConnectionError):
            connection.sendall(raw)
            read_to_the_end(connection)


def test_the_log_has_nothing_of_a_requests_text(told: Server) -> None:
    assert len([line for line in told.lines() if line["message"] == "request"]) > 40
    assert any("traceback" in line for line in told.lines())
    # A protocol failed with an error whose message may hold anything: its type alone is logged.
    told.until(lambda: any(line.get("errors") == ["UnicodeDecodeError"] for line in told.lines()))
    assert not any(line.startswith("Unhandled") for line in told.process.log.splitlines())
    found = [line for line in told.process.log.splitlines() if MARK in line]
    assert found == []


def test_the_metrics_have_nothing_of_a_requests_text(told: Server) -> None:
    text = told.client.get("/metrics").text
    assert "ark:" in text
    assert MARK not in text


def test_errors_have_nothing_of_the_servers_inside(told: Server) -> None:
    """Whatever fails: no traceback, no path, nothing the engine said; and the log has it under the request's id."""
    seen = []
    for name in ("bug-admission", "bug-middle", "engine-admission", "engine-middle", "gone"):
        for stream in (False, True):
            body = {"model": name, "messages": [{"role": "user", "content": "hello world"}], "stream": stream}
            reply = told.client.post("/v1/chat/completions", json=body)
            seen.append(reply.text)
            assert reply.status_code in (200, 500, 503)
            for inside in ("Traceback", "internals of the engine", ".py", "ZeroDivision", str(Path.cwd())):
                assert inside not in reply.text
            if name.startswith("bug"):
                assert reply.headers["x-request-id"] in reply.text
                lines = [one for one in told.lines() if one.get("request_id") == reply.headers["x-request-id"]]
                assert any("ZeroDivisionError" in line.get("traceback", "") for line in lines)
    assert len(seen) == 10


def test_the_server_says_nothing_of_its_version_or_place(told: Server) -> None:
    for path in ("/health", "/nothing", "/v1/models", "/ready"):
        reply = told.client.get(path)
        assert not {"server", "x-powered-by", "via"} & {*reply.headers}
        assert str(Path.cwd()) not in json.dumps(reply.text)


@pytest.mark.anyio
async def test_conversations_that_are_alike_word_for_word_share_no_thought(tmp_path: Path) -> None:
    """Without any cookie, with evictions, restarts, names that several conversations share, and turns at once."""
    canaries.SEEN = seen = canaries.Seen()
    models = [{"name": "canaries", "backend": "canaries:Canaries"}]
    how = await canaries.drive(tmp_path, models=models, turns=400, conversations=8, max_sessions=40)
    assert seen.leaks == []
    assert seen.own > 200
    assert min(how["created"], how["continued"], how["rewound"]) > 20
