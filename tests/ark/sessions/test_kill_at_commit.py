"""A server that is killed while its sessions commit."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from ark.config import SessionsConfig
from ark.sessions.service import Sessions
from ark.sessions.sqlite import SqliteStorage

NAMES = [str(uuid.UUID(int=n)) for n in range(1, 4)]


CHILD = """
import anyio, sys
from ark.config import SessionsConfig
from ark.sessions.transcript import read_message, read_messages
from ark.sessions.service import Sessions
from ark.sessions.sqlite import SqliteStorage
from ark.sessions.transcript import Seam, Transcript, pack_tokens

async def talk(sessions, name):
    number = 0
    while True:
        async with await sessions.begin("ann", stateful=name) as turn:
            continuation = turn.resume(read_messages([{"role": "user", "content": f"{name} {number}"}]), "m")
            messages = (*continuation.messages, read_message({"role": "assistant", "content": f"reply {number}"}))
            seams = () if continuation.transcript is None else continuation.transcript.seams
            seam = Seam(len(messages) - 1, len(messages) - 1, len(messages), True, 0, b"", "")
            await turn.commit(Transcript("m", "f", messages, pack_tokens(range(len(messages))), (*seams, seam)))
        number += 1
        print(name, number, flush=True)

async def main():
    sessions = Sessions(SessionsConfig(), storage=SqliteStorage(sys.argv[1]))
    await sessions.open()
    async with anyio.create_task_group() as tasks:
        for name in sys.argv[2:]:
            tasks.start_soon(talk, sessions, name)

anyio.run(main)
"""


def killed_while_talking(path: Path) -> list[str]:
    """What a server told of its turns until it was killed."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(path), *NAMES], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child, child.stdout as output:
        lines = [output.readline() for _ in range(300)]
        child.send_signal(signal.SIGKILL)
        return lines + output.readlines()


@pytest.mark.anyio
async def test_a_kill_in_the_middle_of_commits_loses_nothing_that_was_committed(path: Path) -> None:
    lines = await anyio.to_thread.run_sync(killed_while_talking, path)
    told = dict.fromkeys(NAMES, 0)
    for line in lines:
        if line.endswith("\n"):
            name, number = line.split()
            told[name] = int(number)
    assert sum(told.values()) >= 300

    sessions = Sessions(SessionsConfig(), storage=SqliteStorage(path))
    await sessions.open()
    for session in sessions.store._by_age:
        (conversation,) = session.conversations.values()
        transcript = conversation.transcript
        turns = len(transcript.messages) // 2
        # A turn may have been written whose commit was not told yet.
        assert told[session.id] <= turns <= told[session.id] + 1
        assert transcript.length == len(transcript.messages) == 2 * turns
        assert [m.data["content"] for m in transcript.messages[::2]] == [f"{session.id} {n}" for n in range(turns)]
    assert len(sessions.store) == 3
    await sessions.close()
