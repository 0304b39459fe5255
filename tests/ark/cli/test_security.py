"""What `ark check --security` finds open, and what it takes for closed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ark.cli import main
from ark.cli.security import left_open
from ark.config import Config, ConfigError

KEY = {"name": "one", "sha256": hashlib.sha256(b"one").hexdigest()}
COOKIE = {"cookie_secure": True, "cookie_http_only": True}
LOCAL, PUBLIC = "127.0.0.1:8000", "0.0.0.0:8000"

Find = Callable[..., str]


@pytest.fixture
def find(monkeypatch: pytest.MonkeyPatch) -> Find:
    """What is left open, by a user who is not root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    def found(*binds: str, tls: bool = False, **tables: Any) -> str:
        config = msgspec.convert(tables, Config)
        return "\n".join(left_open(config, binds or (LOCAL,), tls=tls))

    return found


def test_the_defaults_leave_nothing_open(find: Find) -> None:
    assert find() == find("unix:/run/ark") == find("[::1]:8000") == ""
    assert find(LOCAL, keys=[KEY], sessions=COOKIE) == ""
    assert find(PUBLIC, tls=True, keys=[KEY], sessions=COOKIE) == ""


def test_a_public_address_wants_keys_and_tls_and_a_user(find: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = find(LOCAL, PUBLIC).splitlines()
    assert len(lines) == 2
    assert "everyone who reaches 0.0.0.0:8000 may" in lines[0]
    assert "plain text" in lines[1]
    assert find(PUBLIC, tls=True).count("\n") == 0
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "root" in find(PUBLIC, tls=True, keys=[KEY], sessions=COOKIE)
    assert find(LOCAL) == ""


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"server": {"allowed_hosts": ["*"]}}, "any web page"),
        ({"server": {"cors": {"origins": "*"}}}, "pages of every origin"),
        ({"keys": [KEY], "server": {"cors": {"origins": "*"}}, "sessions": COOKIE}, "a browser that has a key"),
        ({"keys": [KEY], "sessions": COOKIE | {"cookie_http_only": False}}, "cookie_http_only = true"),
        ({"keys": [KEY], "sessions": COOKIE | {"cookie_secure": False}}, "cookie_secure = true"),
        ({"keys": [KEY], "sessions": COOKIE | {"cookie_domain": "example.com"}}, "below example.com"),
        ({"keys": [KEY], "sessions": COOKIE, "limits": {"key_concurrent_requests": 0}}, "one key may take every"),
        ({"keys": [KEY | {"concurrent_requests": 0}], "sessions": COOKIE}, "the key 'one' may take every"),
    ],
)
def test_what_a_configuration_opens(find: Find, tables: dict[str, Any], says: str) -> None:
    found = find(LOCAL, **tables)
    assert says in found
    assert found.count("\n") == 0


def test_without_sessions_there_is_no_cookie(find: Find) -> None:
    assert find(LOCAL, keys=[KEY], sessions={"enabled": False}) == ""


def test_files_that_others_can_read_or_replace(find: Find, tmp_path: Path) -> None:
    sessions, keys = tmp_path / "sessions.sqlite", tmp_path / "keys.toml"
    tables = {"server": {"keys_file": str(keys)}, "sessions": COOKIE | {"path": str(sessions)}}
    with pytest.raises(ConfigError, match="cannot be read"):
        find(**tables)
    keys.write_text("")
    keys.chmod(0o600)
    assert find(**tables) == ""
    for file in (sessions, keys, tmp_path / "sessions.sqlite-wal"):
        file.touch()
        for mode in (0o640, 0o604, 0o602):
            file.chmod(mode)
            assert f"{file} (mode {mode:03o}): chmod 600" in find(**tables)
        file.chmod(0o600)
    tmp_path.chmod(0o777)
    assert find(**tables).count("may replace") == 2
    tmp_path.chmod(0o1777)
    assert find(**tables) == ""


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--security"]) == 0
    assert capsys.readouterr().out == "nothing is left open that can be seen from here\n"
    assert main(["check", "--security", "--host", "0.0.0.0"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("open: everyone who reaches 0.0.0.0:8000")
    assert out.endswith("\n2 to close\n")
    assert main(["check", "--security", "--bind", "0.0.0.0:80", "--certfile", "a", "--keyfile", "b"]) == 1
    assert capsys.readouterr().out.endswith("\n1 to close\n")
