"""A disk that is full under `sessions.path`: turns are answered, and written once there is room."""

from __future__ import annotations

import resource
import signal
import sqlite3
import uuid
from pathlib import Path

from process import ECHO_TOML
from serving import Server, serving

SOME = "some words that fill the disk " * 100
ECHO = ECHO_TOML + "context_length = 2_000_000\n"


def say(server: Server, session: str, content: str = SOME) -> None:
    reply = server.ask(content, ark_stateful=session, max_tokens=4)
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["message"]["content"] == content[:4]


def messages(server: Server, session: str) -> int:
    count: int = server.client.get(f"/v1/sessions/{session}").json()["messages"]
    return count


def test_turns_are_answered_and_written_later(tmp_path: Path) -> None:
    """The limit on a file's size stands for the disk: the system refuses the write in the same place."""
    file = tmp_path / "sessions.sqlite"
    config = f'[sessions]\npath = "{file}"\n{ECHO}'
    full, new = str(uuid.uuid4()), str(uuid.uuid4())
    with serving(tmp_path, config) as server:
        say(server, full)
        assert server.metric("session_write_failures") == 0
        _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        used = max(path.stat().st_size for path in tmp_path.iterdir() if path.is_file())
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (used + 4096, hard))
        turns = 1
        while server.metric("session_write_failures") < 3:
            say(server, full)
            turns += 1
            assert turns < 200
        say(server, new)
        # In memory nothing is missing, and nobody is turned away.
        assert (messages(server, full), messages(server, new)) == (2 * turns, 2)
        assert server.client.get("/ready").status_code == 200
        (first, *_) = [line for line in server.complaints() if line["logger"] == "ark.sessions"]
        assert first["level"] in ("warning", "error")
        assert SOME[:20] not in server.process.log
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard, hard))
        failures = server.metric("session_write_failures")
        say(server, full)
        say(server, new)
        assert server.metric("session_write_failures") == failures
        server.process.terminate(signal.SIGKILL)
        server.process.wait()
    with serving(tmp_path, config) as server:
        assert (messages(server, full), messages(server, new)) == (2 * turns + 2, 4)
        say(server, full)
        server.process.terminate()
        assert server.process.wait() == 0
    with sqlite3.connect(file) as database:
        assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()


def test_a_server_that_stops_while_the_disk_is_full_ends_in_order(tmp_path: Path) -> None:
    """What could not be written is lost with the process, and what had been written is not."""
    file = tmp_path / "sessions.sqlite"
    config = f'[sessions]\npath = "{file}"\n{ECHO}'
    session = str(uuid.uuid4())
    with serving(tmp_path, config) as server:
        say(server, session)
        used = max(path.stat().st_size for path in tmp_path.iterdir() if path.is_file())
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (used, used))
        while server.metric("session_write_failures") == 0:
            say(server, session)
        server.process.terminate()
        assert server.process.wait() == 0
        assert "Traceback" not in server.process.log
    with serving(tmp_path, config) as server:
        assert messages(server, session) >= 2
        say(server, session)
