"""ARK in uvicorn and in granian: it is plain ASGI, and no single server is needed for what it promises."""

from __future__ import annotations

import json
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from process import Program, launch
from serving import Server, serving
from wire import connected, head, post, read_reply, read_to_the_end, read_until, reset_when_closed
from written_speech import recording

CONFIG = """
[server]
keep_alive = 0.2
[limits]
body_bytes = 100000
body_timeout = 1.0
write_timeout = 1.0
[[models]]
name = "echo"
backend = "echo_backend:EchoBackend"
[[models]]
name = "slow"
backend = "echo_backend:EchoBackend"
engine = { tokens_per_second = 50 }
[[models]]
name = "prefill"
backend = "echo_backend:EchoBackend"
engine = { prefill_seconds = 30 }
[[models]]
name = "long"
backend = "echo_backend:EchoBackend"
context_length = 100000000
[[models]]
name = "speech"
task = "transcription"
backend = "written_speech:WrittenSpeech"
"""
JSON = {"content-type": "application/json"}
HELLO: list[Any] = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module", params=["uvicorn", "granian"])
def program(request: pytest.FixtureRequest) -> Program:
    chosen: Program = request.param
    return chosen


@pytest.fixture(scope="module")
def server(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    arguments = ["--root-path", "/ai"] if program == "uvicorn" else ["--url-path-prefix", "/ai"]
    with serving(tmp_path_factory.mktemp(program), CONFIG, program=program, arguments=arguments) as started:
        yield started
    assert "Traceback" not in started.process.log


@pytest.fixture(autouse=True)
def undisturbed(server: Server) -> Iterator[None]:
    """At the end of a test nothing runs, and the server complained of nothing."""
    before = server.complaints()
    yield
    server.until(lambda: server.metric("requests_in_hand") == 0)
    assert server.complaints() == before


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    url = f"http://127.0.0.1:{server.port}/v1"
    with openai.OpenAI(
        base_url=url, api_key="none", max_retries=0, timeout=120, _strict_response_validation=True
    ) as client:
        yield client


def chat(content: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": content}]} | fields


def running(server: Server, model: str) -> bool:
    return server.metric("num_requests_running", model_name=model) == 1


def test_a_chat_and_its_session(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="echo", messages=HELLO)
    reply = raw.parse()
    assert reply.choices[0].message.content == "hello"
    session = raw.headers["x-ark-session"].partition(";")[0]
    messages = [*HELLO, {"role": "assistant", "content": "hello"}, {"role": "user", "content": "again"}]
    more = client.chat.completions.with_raw_response.create(
        model="echo", messages=messages, extra_headers={"cookie": raw.headers["set-cookie"].partition(";")[0]}
    )
    assert more.headers["x-ark-session"] == f"{session}; continued"


def test_the_tokens_of_a_stream_come_one_by_one(client: openai.OpenAI) -> None:
    times, text = [], ""
    for chunk in client.chat.completions.create(
        model="slow", messages=[{"role": "user", "content": "hello " * 10}], stream=True
    ):
        times.append(time.monotonic())
        text += chunk.choices[0].delta.content or ""
    assert text == "hello " * 10
    # 60 tokens at 50 a second.
    assert times[-1] - times[0] > 0.8
    assert sum(later - earlier > 0.005 for earlier, later in pairwise(times)) > 20


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(("model", "stream"), [("slow", True), ("prefill", True), ("prefill", False)])
def test_a_client_that_disconnects_cancels_its_job(server: Server, model: str, stream: bool, reset: bool) -> None:
    name = str(uuid.uuid4())
    with connected(server.port) as connection:
        connection.sendall(post(chat("hello " * 500, model=model, stream=stream), f"x-request-id: {name}"))
        server.until(lambda: running(server, model))
        if stream:
            read_until(connection, b"data: ")
        if reset:
            reset_when_closed(connection)
    server.until(lambda: server.has_left(name))
    assert not running(server, model)


def test_a_client_that_reads_nothing_is_given_up(server: Server) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(post(chat("x" * 90_000, model="long", stream=True)))
        server.until(lambda: any(line.get("error") == "write_timeout" for line in server.lines()), 20)


def test_comments_keep_a_long_prefill_alive(server: Server) -> None:
    with connected(server.port) as connection:
        connection.sendall(post(chat(model="prefill", stream=True)))
        read_until(connection, b": keep-alive\n\n", 3)


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_an_upload_and_its_reply(client: openai.OpenAI, size: int) -> None:
    """A large file goes to disk, and a large reply is sent in chunks."""
    text = "a" * size
    reply = client.audio.transcriptions.create(model="speech", file=("talk.wav", recording(f"0.5 1.25 {text}")))
    assert reply.text == text


@pytest.mark.parametrize(
    ("request_line", "given", "status", "code"),
    [
        ("POST /v1/chat/completions", {"content": b"{", "headers": JSON}, 400, "invalid_json"),
        ("POST /v1/chat/completions", {"json": chat(temperature=5)}, 400, "invalid_value"),
        ("POST /v1/chat/completions", {"json": chat(model="nobody")}, 404, "model_not_found"),
        ("GET /nothing", {}, 404, "unknown_url"),
        ("PUT /v1/models", {}, 405, "method_not_allowed"),
        ("POST /v1/chat/completions", {"content": b" " * 200_000, "headers": JSON}, 413, "request_too_large"),
        ("POST /v1/chat/completions", {"data": {"model": "echo"}}, 415, "unsupported_media_type"),
    ],
)
def test_an_error(server: Server, request_line: str, given: Any, status: int, code: str) -> None:
    reply = server.client.request(*request_line.split(), **given)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert reply.headers["x-request-id"].startswith("req_")


def test_a_connection_is_kept_through_replies_and_errors(server: Server) -> None:
    with connected(server.port) as connection:
        for request, status in [
            (post(chat()), 200),
            (post({"model": "echo"}), 400),
            (head("GET", "/nothing"), 404),
            (post(chat()), 200),
        ]:
            connection.sendall(request)
            assert read_reply(connection)[0] == status


def test_requests_that_are_sent_at_once_are_answered_in_their_order(server: Server) -> None:
    with connected(server.port) as connection:
        connection.sendall(post(chat("one")) + head("GET", "/health") + post(chat("two")))
        seen, contents = b"", []
        for _ in range(3):
            status, body, seen = read_reply(connection, seen)
            assert status == 200
            contents.append(json.loads(body))
    assert contents[0]["choices"][0]["message"]["content"] == "one"
    assert contents[1] == {"status": "ok"}
    assert contents[2]["choices"][0]["message"]["content"] == "two"


def test_head_has_no_body(server: Server) -> None:
    with connected(server.port) as connection:
        connection.sendall(head("HEAD", "/health") + head("GET", "/health", "connection: close"))
        seen = b""
        while data := connection.recv(65536):
            seen += data
    assert seen.count(b'{"status":"ok"}') == 1
    assert seen.count(b"content-length: 15\r\n") == 2


def test_a_body_that_stops_is_408(server: Server) -> None:
    with connected(server.port) as connection:
        connection.sendall(post(chat())[:-10])
        assert read_reply(connection)[0] == 408


def test_the_document_says_where_it_is_mounted(server: Server) -> None:
    assert server.client.get("/openapi.json").json()["servers"][0]["url"] == "/ai/v1"


def test_a_stream_may_end_after_sigterm(program: Program, tmp_path: Path) -> None:
    config = CONFIG.replace("tokens_per_second = 50", "tokens_per_second = 10")
    with serving(tmp_path, config, program=program) as ending, connected(ending.port) as link:
        link.sendall(post(chat(model="slow", stream=True)))
        seen = read_until(link, b"data: ")
        ending.process.terminate()
        assert b"[DONE]" in seen + read_to_the_end(link)
        # Uvicorn ends by the signal itself.
        assert ending.process.wait() in (0, -signal.SIGTERM)
        assert "Traceback" not in ending.process.log


def test_a_start_that_fails_says_why(program: Program, tmp_path: Path) -> None:
    with launch(tmp_path, "[server]\nkeep_alive = 'long'", program=program) as process:
        if program == "uvicorn":
            assert process.wait() != 0
        else:
            # Granian starts a worker that failed anew; it never listens.
            deadline = time.monotonic() + 120
            while "server.keep_alive" not in process.log:
                assert time.monotonic() < deadline, process.log
                time.sleep(0.1)
        assert "server.keep_alive" in process.log
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{process.port}/health", timeout=60)
