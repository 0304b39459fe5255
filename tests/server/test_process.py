"""The server as a process: how it starts, fails, logs, drains and ends."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from process import ECHO_TOML, EXAMPLES, Process, launch

BODY = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}


def post(server: Process, **fields: Any) -> httpx.Response:
    return httpx.post(f"http://127.0.0.1:{server.port}/v1/chat/completions", json=BODY | fields, timeout=120)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("[server]\nkeep_alive = 'long'", ["ark.toml", "server.keep_alive", "got `str`"]),
        ("[server", ["ark.toml", "not TOML"]),
        (ECHO_TOML + "\n[aliases]\na = 'b'", ["ark.toml", "'a' points at 'b'"]),
    ],
)
def test_a_bad_configuration_is_a_failed_start(tmp_path: Path, config: str, says: list[str]) -> None:
    with launch(tmp_path, config) as server:
        assert server.wait() != 0
        for part in says:
            assert part in server.log


def test_it_serves_and_ends_when_asked_to(tmp_path: Path) -> None:
    with launch(tmp_path) as server:
        server.listening()
        first = post(server)
        second = post(server, stream=True, messages=[{"role": "user", "content": "TOP SECRET"}])
        bad = post(server, temperature="TOP SECRET", messages=[])
        server.terminate()
        assert server.wait() == 0
    assert first.json()["choices"][0]["message"]["content"] == "hello"
    assert second.headers["x-request-id"]
    assert bad.status_code == 400
    assert "TOP SECRET" not in server.log
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    messages = [line["message"] for line in lines]
    assert messages[0].startswith("no API keys are configured")
    assert [line["status"] for line in lines if line["message"] == "request"] == [200, 200, 400]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    # The rest is hypercorn's own.
    assert all("Running on" in line for line in server.log.splitlines() if not line.startswith("{"))


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_while_a_model_loads(tmp_path: Path, how: signal.Signals) -> None:
    config = ECHO_TOML.replace("echo_backend:EchoBackend", "faulty_backend:StuckInALibrary")
    support = str(Path(__file__).parents[1] / "support")
    with launch(tmp_path, config, program="ark", environment={"PYTHONPATH": f"{EXAMPLES}:{support}"}) as server:
        server.listening()
        while "as configured" not in server.log:
            time.sleep(0.05)
        server.terminate(how)
        assert server.wait() == 0
    assert "Traceback" not in server.log


def test_a_stream_may_finish_after_sigterm(tmp_path: Path) -> None:
    with launch(tmp_path, ECHO_TOML + "engine = {tokens_per_second = 20}") as server:
        server.listening()
        url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
        with httpx.stream("POST", url, json=BODY | {"stream": True}, timeout=120) as reply:
            lines = reply.iter_lines()
            next(lines)
            server.terminate()
            rest = list(lines)
        assert rest[-2:] == ["data: [DONE]", ""]
        assert server.wait() == 0


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_that_does_not_finish_in_time_is_broken_off(tmp_path: Path, stream: bool) -> None:
    with launch(tmp_path, ECHO_TOML + "engine = {prefill_seconds = 60}", graceful=1) as server:
        server.listening()
        replies: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: replies.append(post(server, stream=stream)))
        asking.start()
        server.asked()
        begun = time.monotonic()
        server.terminate()
        assert server.wait() == 0
        asking.join(60)
    assert time.monotonic() - begun < 50
    (reply,) = replies
    if stream:
        *_, last = reply.text.strip().split("\n\n")
        error = json.loads(last.removeprefix("data: "))["error"]
    else:
        assert reply.status_code == 503
        assert int(reply.headers["retry-after"]) > 0
        error = reply.json()["error"]
    assert error["code"] == "draining"
    assert '"level":"error"' not in server.log


def test_the_environment_overrides_the_file(tmp_path: Path) -> None:
    with launch(tmp_path, environment={"ARK_LIMITS__BODY_BYTES": "10"}) as server:
        server.listening()
        assert post(server).status_code == 413


MOUNTED = """
from ark.app import create_app

ark = create_app("ark.toml")


class Parent:
    '''Mounts ARK below /ark. Its own lifespan runs ARK's: nothing is forwarded.'''

    def __init__(self):
        self.running = None

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            async with ark.lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["path"].startswith("/ark/"):
            inner = dict(scope, root_path="/ark")
            if scope["query_string"] == b"stripped":
                inner["path"] = scope["path"].removeprefix("/ark")
            await ark(inner, receive, send)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
            await send({"type": "http.response.body", "body": b"parent"})


app = Parent()
"""


def test_it_can_be_mounted_below_another_application(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(MOUNTED)
    with launch(tmp_path, app="parent:app") as server:
        server.listening()
        with httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=120) as client:
            assert client.get("/").text == "parent"
            for query in ("", "?stripped"):
                assert client.get(f"/ark/v1/models/gpt-4o{query}").json()["id"] == "gpt-4o"
                reply = client.post(f"/ark/chat/completions{query}", json=BODY)
                assert reply.json()["choices"][0]["message"]["content"] == "hello"
                assert client.get(f"/ark/nothing{query}").status_code == 404
        server.terminate()
        assert server.wait() == 0
    assert "Traceback" not in server.log
