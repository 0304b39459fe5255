"""Conversations without a model: every reply is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ark.config import SessionsConfig
from ark.sessions.service import Sessions
from ark.sessions.sqlite import SqliteStorage
from ark.sessions.transcript import Continuation, Seam, Transcript, pack_tokens, read_message, read_messages


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def finish(continuation: Continuation, text: str, model: str = "m") -> Transcript:
    """A transcript as a prompt builder makes one: here a token is one message."""
    message = read_message({"role": "assistant", "content": text}, continuation.messages[-1])
    messages = (*continuation.messages, message)
    seams = () if continuation.transcript is None else continuation.transcript.seams
    kept = tuple(seam for seam in seams if seam.message < continuation.kept)
    seam = Seam(len(continuation.messages), len(continuation.messages), len(messages), True, 0, b"", "")
    tokens = pack_tokens(int.from_bytes(m.digest[:4], "little") for m in messages)
    return Transcript(model, "f", messages, tokens, (*kept, seam))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(name="finish")
def finish_fixture() -> Callable[..., Transcript]:
    return finish


@pytest.fixture
def says() -> Any:
    """A user's message."""
    return lambda text: {"role": "user", "content": text}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sessions.db"


@pytest.fixture
def started(clock: Any, path: Path) -> Callable[..., Any]:
    async def start(**config: Any) -> Sessions:
        sessions = Sessions(SessionsConfig(**config), storage=SqliteStorage(path), clock=clock)
        await sessions.open()
        return sessions

    return start


@pytest.fixture
def say(finish: Callable[..., Transcript], says: Any) -> Callable[..., Any]:
    async def whole(sessions: Sessions, text: str, **which: Any) -> Any:
        history = which.pop("history", [])
        async with await sessions.begin("ann", **which) as turn:
            continuation = turn.resume(read_messages([*history, says(text)]), "m")
            await turn.commit(finish(continuation, text.upper()))
            return turn.session_id, continuation.how

    return whole
