"""``ark serve``: how it starts, drains and ends, and what is left of its sessions."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h2.connection
import h2.events
import httpx
import openai
import pytest
from certificates import self_signed
from fixture_models import TINY_CHAT
from process import ECHO_TOML, Process, launch

from ark.process import memory

BODY = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
SLOW = ECHO_TOML + "engine = {tokens_per_second = 20}\n"


def url(server: Process, path: str = "/v1/chat/completions") -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def post(server: Process, **fields: Any) -> httpx.Response:
    return httpx.post(url(server), json=BODY | fields, timeout=120)


def accepts(server: Process) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def serving(directory: Path, config: str = SLOW) -> Iterator[Process]:
    with launch(directory, config, program="ark") as server:
        server.listening()
        deadline = time.monotonic() + 120
        while httpx.get(url(server, "/ready"), timeout=60).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield server


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_ends_when_asked_to(tmp_path: Path, how: signal.Signals) -> None:
    with serving(tmp_path) as server:
        assert post(server).json()["choices"][0]["message"]["content"] == "hello"
        server.terminate(how)
        assert server.wait() == 0
    assert "Traceback" not in server.log
    said = [json.loads(line)["message"] for line in server.log.splitlines()]
    assert any(line.startswith(f"Running on http://127.0.0.1:{server.port}") for line in said)
    # It is open, and only this machine can reach it.
    assert "no API keys are configured" not in server.log


FROZEN = """
import gc
from echo_backend import EchoBackend

class Frozen(EchoBackend):
    def _answer(self, prompt):
        return f"{gc.get_threshold()[0]} {gc.get_freeze_count()}".encode()
"""


def test_its_collector_of_garbage_looks_seldom_and_not_through_what_was_loaded(tmp_path: Path) -> None:
    (tmp_path / "frozen.py").write_text(FROZEN)
    with serving(tmp_path, ECHO_TOML.replace("echo_backend:EchoBackend", "frozen:Frozen")) as server:
        content = post(server).json()["choices"][0]["message"]["content"]
    new, apart = map(int, content.split())
    assert new == memory.GC_THRESHOLD
    assert apart > 10_000


def test_while_streams_end_new_requests_are_told_to_go_elsewhere(tmp_path: Path) -> None:
    # All of the requests have to be made while it is told.
    content = [{"role": "user", "content": "hello " * 20}]
    with (
        serving(tmp_path) as server,
        httpx.Client(timeout=120) as kept,
        openai.OpenAI(base_url=url(server, "/v1"), api_key="none", max_retries=0) as client,
    ):
        client.models.list()
        assert kept.get(url(server, "/health")).status_code == 200
        asked = {"stream": True, "messages": content}
        with httpx.stream("POST", url(server), json=BODY | asked, timeout=120) as reply:
            lines = reply.iter_lines()
            next(lines)
            server.terminate()
            deadline = time.monotonic() + 120
            while kept.get(url(server, "/ready")).status_code == 200:
                assert time.monotonic() < deadline
            refused = [post(server), kept.post(url(server), json=BODY), httpx.get(url(server, "/ready"), timeout=60)]
            alive = httpx.get(url(server, "/health"), timeout=60)
            with pytest.raises(openai.InternalServerError) as caught:
                client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "hello"}])
            rest = list(lines)
        assert rest[-2:] == ["data: [DONE]", ""]
        assert server.wait() == 0
    for answer in refused:
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "draining"
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["connection"] == "close"
    assert (caught.value.status_code, caught.value.code) == (503, "draining")
    assert (alive.status_code, alive.headers["connection"]) == (200, "close")


@pytest.mark.parametrize("hurry", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_what_takes_too_long_is_broken_off_and_told_so(tmp_path: Path, stream: bool, hurry: bool) -> None:
    """After its time, or at a second signal."""
    config = f"[server]\ndrain_seconds = {600 if hurry else 0.5}\n{ECHO_TOML}engine = {{prefill_seconds = 60}}\n"
    with serving(tmp_path, config) as server:
        replies: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: replies.append(post(server, stream=stream)))
        asking.start()
        server.asked()
        server.terminate()
        if hurry:
            time.sleep(0.5)
            server.terminate()
        assert server.wait() == 0
        asking.join(60)
    (reply,) = replies
    assert reply.status_code == (200 if stream else 503)
    assert '"code":"draining"' in reply.text
    assert "Traceback" not in server.log


@pytest.mark.parametrize("idle", [0.0, 1.5])
def test_a_client_of_https_that_keeps_its_connection_does_not_keep_the_server(idle: float, tmp_path: Path) -> None:
    """Nor does one that takes no notice when its connection is closed for being idle."""
    certificate, key = self_signed(tmp_path)
    config = ECHO_TOML + "[limits]\nheader_timeout = 1.0\n"
    with launch(tmp_path, config, program="ark", arguments=["--certfile", certificate, "--keyfile", key]) as server:
        server.listening()
        with httpx.Client(verify=ssl.create_default_context(cafile=certificate)) as kept:
            assert kept.get(url(server, "/health").replace("http:", "https:")).status_code == 200
            time.sleep(idle)
            server.terminate()
            # TLS by itself would wait for the client for half a minute.
            assert server.wait(25) == 0
    assert "Traceback" not in server.log


def test_a_connection_of_http_2_is_closed_behind_its_last_reply(tmp_path: Path) -> None:
    """It is told to its client that it ends, which may take no notice."""
    link = h2.connection.H2Connection()
    head = [(":method", "POST"), (":path", "/v1/chat/completions"), (":scheme", "http"), (":authority", "localhost")]
    head.append(("content-type", "application/json"))
    with (
        serving(tmp_path) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=120) as connection,
    ):
        link.initiate_connection()
        link.send_headers(1, head)
        connection.sendall(link.data_to_send())
        # For the request to be there without its body.
        time.sleep(0.5)
        server.terminate()
        while accepts(server):
            time.sleep(0.05)
        link.send_data(1, json.dumps(BODY).encode(), end_stream=True)
        connection.sendall(link.data_to_send())
        told = b""
        while data := connection.recv(65536):
            told += data
        assert server.wait() == 0
    assert any(isinstance(event, h2.events.StreamEnded) for event in link.receive_data(told))
    # Nothing was broken off.
    assert "Traceback" not in server.log


def test_clients_that_ask_again_and_leave_keep_nothing(tmp_path: Path) -> None:
    """What they sent behind a stream that they did not wait for is nobody's."""
    asked = httpx.Request("POST", "http://ark/", json=BODY | {"stream": True}).content
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(asked)}\r\n\r\n".encode() + asked
    with serving(tmp_path) as server:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port), timeout=120) as client:
                client.sendall(request * 3)
                client.recv(100)
        assert post(server).status_code == 200
        server.terminate()
        assert server.wait() == 0
    # A task that waits for ever is cancelled in the end, and says so.
    assert "Traceback" not in server.log


def test_a_session_of_a_reply_that_ended_while_draining_is_there_again(tmp_path: Path) -> None:
    config = f'[sessions]\npath = "{tmp_path / "sessions.sqlite"}"\n{SLOW}'
    session = str(uuid.uuid4())
    with serving(tmp_path, config) as server:
        with httpx.stream("POST", url(server), json=BODY | {"stream": True, "ark_stateful": session}) as reply:
            lines = reply.iter_lines()
            next(lines)
            server.terminate()
            assert list(lines)[-2:] == ["data: [DONE]", ""]
        assert server.wait() == 0
    with serving(tmp_path, config) as server:
        assert httpx.get(url(server, f"/v1/sessions/{session}")).json()["messages"] == 2
        again = post(server, ark_stateful=session)
        assert again.headers["x-ark-session"].startswith(session)
        assert httpx.get(url(server, f"/v1/sessions/{session}")).json()["messages"] == 4
        server.terminate(signal.SIGKILL)
        server.wait()
    with serving(tmp_path, config) as server:
        assert httpx.get(url(server, f"/v1/sessions/{session}")).json()["messages"] == 4


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("[server]\nkeep_alive = 'long'", ["ark.toml", "server.keep_alive"]),
        ("[server]\nkeys_file = 'gone.toml'\n" + ECHO_TOML, ["gone.toml", "cannot be read"]),
        ("[sessions]\npath = '/proc/no/sessions'\n" + ECHO_TOML, ["/proc/no/sessions"]),
    ],
)
def test_a_start_that_fails_says_why_in_one_line(tmp_path: Path, config: str, says: list[str]) -> None:
    with launch(tmp_path, config, program="ark") as server:
        assert server.wait() == 1
    last = server.log.splitlines()[-1]
    assert last.startswith("ark: ")
    for part in says:
        assert part in last
    assert "Traceback" not in server.log


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    (tmp_path / "ark.toml").write_text(ECHO_TOML)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "ark", "serve", "--config", str(tmp_path / "ark.toml")]
        command += ["--port", str(taken.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert re.fullmatch(r"ark: cannot listen: .* --port names another port", done.stderr.splitlines()[-1])


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such option")
def test_a_connection_whose_client_takes_nothing_is_ended(tmp_path: Path) -> None:
    model = ECHO_TOML + "context_length = 2_000_000\n"
    with serving(tmp_path, "[limits]\nwrite_timeout = 1\n" + model) as server:
        before = connections(server)
        body = httpx.Request("POST", url(server), json=BODY | {"stream": True}).content
        long = body.replace(b'"hello"', b'"' + b"x" * 100_000 + b'"')
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", server.port))
            head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            client.sendall(f"{head}content-length: {len(long)}\r\n\r\n".encode() + long)
            deadline = time.monotonic() + 60
            while '"error":"write_timeout"' not in server.log and '"client disconnected"' not in server.log:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            while connections(server) > before:
                assert time.monotonic() < deadline
                time.sleep(0.1)


def connections(server: Process) -> int:
    import psutil

    found = psutil.Process(server.pid).net_connections("tcp")
    return sum(place.status == psutil.CONN_ESTABLISHED for place in found)


def test_a_model_named_on_the_command_line_behind_a_key_of_it(tmp_path: Path) -> None:
    model = str(TINY_CHAT)
    with launch(tmp_path, "", program="ark", arguments=[model, "--key", "secret"]) as server:
        server.listening()
        address = f"http://127.0.0.1:{server.port}/v1"
        refused = httpx.get(f"{address}/models")
        listed = httpx.get(f"{address}/models", headers={"authorization": "Bearer secret"})
        assert refused.status_code == 401
        assert [entry["id"] for entry in listed.json()["data"] if entry["ark"]["alias_of"] is None] == [TINY_CHAT.name]
        assert f"model {TINY_CHAT.name}: chat on torch_chat, for plain weights" in server.log
