"""A server that is killed in mid-turn, and what its sessions know afterwards."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tiny_model import save_tiny_llama


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny")
    save_tiny_llama(path, context_length=4096)
    return path


@contextmanager
def started(directory: Path, tiny: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A server process with its sessions in `directory`, and a client of it."""
    config = f"""
        [sessions]
        path = "{directory / "sessions.sqlite"}"

        [[models]]
        name = "tiny"
        path = "{tiny}"
        engine = {{ dtype = "float32", threads = 1 }}
    """
    (directory / "ark.toml").write_text(config)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "hypercorn", "-w", "0", "--bind", f"127.0.0.1:{port}", "ark.app:app"]
    environment = {**os.environ, "ARK_CONFIG": str(directory / "ark.toml")}
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stderr=log, stdout=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/v1", timeout=60) as client:
            deadline = time.monotonic() + 60
            while not ready(client):
                assert process.poll() is None, (directory / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
            yield process, client
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/ready").status_code == 200
    except httpx.TransportError:
        return False


def body(session: str, content: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": "tiny", "messages": messages, "max_tokens": 20, "temperature": 0, "ark_stateful": session} | more


def test_a_session_lives_through_a_kill_in_mid_turn(tmp_path: Path, tiny: Path) -> None:
    session, other = str(uuid.uuid4()), str(uuid.uuid4())
    with started(tmp_path, tiny) as (process, client):
        first = client.post("/chat/completions", json=body(session, "alpha")).json()
        second = client.post("/chat/completions", json=body(session, "beta")).json()
        # What the server would have said had it lived, by another session of the same turns.
        for content in ("alpha", "beta"):
            client.post("/chat/completions", json=body(other, content))
        expected = client.post("/chat/completions", json=body(other, "gamma")).json()
        stream = body(session, "cut off", stream=True, max_tokens=3000, ignore_eos=True)
        with client.stream("POST", "/chat/completions", json=stream) as reply:
            for number, line in enumerate(reply.iter_lines()):
                assert line == "" or json.loads(line.removeprefix("data: "))["object"] == "chat.completion.chunk"
                if number > 20:
                    break
            process.send_signal(signal.SIGKILL)
            process.wait(30)
    with started(tmp_path, tiny) as (process, client):
        restored = client.get(f"/sessions/{session}").json()
        assert (restored["messages"], restored["running"]) == (4, 0)
        reply = client.post("/chat/completions", json=body(session, "gamma"))
        assert reply.headers["x-ark-session"] in (f"{session}; rebuilt", f"{session}; continued")
        assert reply.headers["x-ark-cached-tokens"] == "0"
        assert reply.json()["choices"] == expected["choices"]
        assert reply.json()["usage"]["prompt_tokens"] == expected["usage"]["prompt_tokens"]
    assert first["choices"] != second["choices"]


def test_a_damaged_file_is_moved_aside_and_the_server_starts(tmp_path: Path, tiny: Path) -> None:
    path = tmp_path / "sessions.sqlite"
    damaged = b"SQLite format 3\0" + b"and then no database" * 500
    path.write_bytes(damaged)
    with started(tmp_path, tiny) as (_, client):
        session = str(uuid.uuid4())
        assert client.post("/chat/completions", json=body(session, "alpha")).status_code == 200
    moved = [file for file in tmp_path.iterdir() if file.name.startswith("sessions.sqlite.damaged")]
    assert [file.read_bytes() for file in moved] == [damaged]
    assert "damaged" in (tmp_path / "log").read_text()
    with sqlite3.connect(path) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()
