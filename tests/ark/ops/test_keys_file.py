"""A file of API keys that changes while the server runs."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from asgi_client import ECHO, Client, chat_request, make_config, running, until

from ark.app import create_app
from ark.config import ConfigError
from ark.ops import keys

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "WATCH_INTERVAL", 0.01)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.toml"


def table(name: str, more: str = "", key: str = "") -> str:
    digest = hashlib.sha256((key or name).encode()).hexdigest()
    return f'[[keys]]\nname = "{name}"\nsha256 = "{digest}"\n{more}\n'


def write(path: Path, text: str | bytes) -> None:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def replace(path: Path, text: str | bytes) -> None:
    """As an operator should: another file, then its name."""
    new = path.with_suffix(".new")
    write(new, text)
    new.rename(path)


@asynccontextmanager
async def serving(path: Path, **tables: Any) -> AsyncIterator[Client]:
    async with running(server={"keys_file": str(path)}, **tables) as client:
        yield client


async def status(client: Client, key: str) -> int:
    return (await client.get("/v1/models", headers=[("authorization", f"Bearer {key}")])).status


async def becomes(client: Client, key: str, expected: int) -> None:
    with anyio.fail_after(60):
        while True:
            if await status(client, key) == expected:
                return
            await anyio.sleep(0.01)


async def test_keys_come_and_go_without_a_restart(path: Path) -> None:
    write(path, table("one"))
    configured = {"name": "fixed", "sha256": hashlib.sha256(b"fixed").hexdigest()}
    async with serving(path, keys=[configured]) as client:
        assert [await status(client, key) for key in ("one", "two", "fixed")] == [200, 401, 200]
        replace(path, table("one") + table("two"))
        await becomes(client, "two", 200)
        assert await status(client, "one") == 200
        replace(path, table("two"))
        await becomes(client, "one", 401)
        # The same name and size: the file is another one.
        replace(path, table("two", key="new"))
        await becomes(client, "new", 200)
        assert [await status(client, key) for key in ("two", "fixed")] == [401, 200]


async def test_a_file_that_is_written_over(path: Path) -> None:
    write(path, table("one"))
    async with serving(path) as client:
        write(path, table("two"))
        await becomes(client, "two", 200)
        assert await status(client, "one") == 401


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ("[[keys", "not TOML"),
        (b"\xff\xfe", "not TOML"),
        ("[server]\n", "server"),
        (table("one", "rate = 1"), "rate"),
        (table("fixed", key="other"), "'fixed' is used twice"),
        (table("other", key="fixed"), "the same key"),
        (table("two", 'models = ["gone"]'), "'gone'"),
        ("a=" + "[" * 5000, ""),
    ],
)
async def test_a_broken_file_keeps_the_keys_and_says_so_once(
    path: Path, broken: str | bytes, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(path, table("one"))
    configured = {"name": "fixed", "sha256": hashlib.sha256(b"fixed").hexdigest()}
    async with serving(path, keys=[configured]) as client:
        # At once: a file that is written in place is empty for a moment, and then has no keys.
        replace(path, broken)
        await until(lambda: bool(errors(caplog)))
        await anyio.sleep(0.1)
        (message,) = errors(caplog)
        assert "stay as they were" in message
        assert says in message
        assert [await status(client, key) for key in ("one", "fixed")] == [200, 200]
        replace(path, table("two"))
        await becomes(client, "two", 200)
        assert await status(client, "one") == 401


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_file_that_is_gone_keeps_the_keys(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(path, table("one"))
    async with serving(path) as client:
        os.remove(path)
        await until(lambda: bool(errors(caplog)))
        await anyio.sleep(0.1)
        assert len(errors(caplog)) == 1
        assert await status(client, "one") == 200
        replace(path, table("two"))
        await becomes(client, "two", 200)


async def test_a_file_without_keys_lets_nobody_in(path: Path) -> None:
    write(path, "")
    async with serving(path) as client:
        assert await status(client, "one") == 401
        replace(path, table("one"))
        await becomes(client, "one", 200)
        replace(path, "")
        await becomes(client, "one", 401)
        assert (await client.get("/v1/models")).status == 401


@pytest.mark.parametrize("text", [None, "[[keys", table("one") + table("one", key="x"), table("o", "models = ['no']")])
async def test_at_the_start_a_file_that_cannot_be_used_is_an_error(path: Path, text: str | None) -> None:
    if text is not None:
        write(path, text)
    app = create_app(make_config(server={"keys_file": str(path)}))
    with pytest.raises(ConfigError, match=r"keys\.toml"):
        async with app.lifespan():
            pass


async def test_what_a_removed_key_began_ends_as_it_should(path: Path) -> None:
    write(path, table("one"))
    models = [ECHO | {"engine": {"tokens_per_second": 100}}]
    headers = [("authorization", "Bearer one")]
    async with serving(path, models=models) as client:
        request = chat_request("hello " * 10, stream=True, headers=headers)
        async with client.open("POST", "/v1/chat/completions", **request) as exchange:
            await exchange.until(3)
            replace(path, table("two"))
            await becomes(client, "one", 401)
        assert (await client.chat(headers=headers)).status == 401
    assert exchange.response.events[-1].data == "[DONE]"


async def test_a_keys_limits_change_with_the_file(path: Path) -> None:
    write(path, table("one"))
    headers = [("authorization", "Bearer one")]
    async with serving(path) as client:
        assert "x-ratelimit-limit-requests" not in (await client.chat(headers=headers)).headers
        replace(path, table("one", "requests_per_minute = 1"))
        await until(lambda: client.app.services.keys.check("Bearer one").requests_per_minute == 1)
        assert [(await client.chat(headers=headers)).status for _ in range(2)] == [200, 429]


async def test_the_file_is_only_read_when_it_changed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(path, table("one"))
    reads: list[Path] = []
    real = keys.load_keys

    def load(read: Path) -> Any:
        reads.append(read)
        return real(read)

    monkeypatch.setattr(keys, "load_keys", load)
    async with serving(path) as client:
        await anyio.sleep(0.1)
        assert reads == [path]
        os.utime(path)
        await until(lambda: len(reads) == 2)
        assert await status(client, "one") == 200
