"""Replaying a case: repeated steps, and what a report shows of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flawed_server import KEY, LIMITED, app, serve_plain

from ark_conformance.calls import CallSet
from ark_conformance.clients import Server
from ark_conformance.replay import Result, replay
from ark_conformance.target import Target

HEAD = """
area = "mine"
about = "Mine."
[defaults."chat.completions.create"]
model = "${chat}"
messages = [{ role = "user", content = "Hello" }]
[[case]]
name = "one"
about = "One."
step = [{ call = "chat.completions.create", STEP }]
"""
NOBODY = "http://127.0.0.1:9/"
OVER = 'key = "limited", until = [{ at = "status", min = 400 }]'


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_plain(app) as url:
        yield url


def run(url: str, tmp_path: Path, step: str, **server: Any) -> Result:
    path = tmp_path / "mine.toml"
    path.write_text(HEAD.replace("STEP", step), encoding="utf-8")
    calls = CallSet.read([path])
    target = Target.ask(Server(base_url=f"{url}/v1", api_key=KEY, limited_key=LIMITED, timeout=10))
    return replay(calls.calls[0], "sync", calls, target, "ark")


def test_a_step_is_repeated_until_something_is_so(url: str, tmp_path: Path) -> None:
    result = run(f"{url}/until", tmp_path, f"{OVER}, times = 50, error = {{ status = 429 }}")
    assert (result.status, result.problems) == ("passed", [])
    assert result.calls > 1


def test_what_comes_of_it_is_looked_at_once(url: str, tmp_path: Path) -> None:
    result = run(f"{url}/once", tmp_path, f"{OVER}, times = 50, within = 20.0, error = {{ status = 418 }}")
    assert result.status == "failed"
    assert "error.status is 429, not 418" in result.problems
    assert result.calls < 20


def test_what_never_comes_is_skipped_where_the_step_says_so(url: str, tmp_path: Path) -> None:
    never = 'times = 3, until = [{ at = "status", equals = 418 }]'
    result = run(f"{url}/none", tmp_path, f'{never}, or_skip = "${{chat}} makes tea"')
    assert (result.status, result.reason, result.calls) == ("skipped", "right makes tea", 3)
    result = run(f"{url}/none", tmp_path, never)
    assert (result.status, result.problems) == ("failed", ["status is 200, not 418"])


def test_a_server_that_does_not_answer_is_no_reason_to_skip(url: str, tmp_path: Path) -> None:
    never = 'until = [{ at = "status", equals = 418 }], or_skip = "no tea"'
    gone = f'expect = [{{ at = "status", equals = 200 }}] }}, {{ call = "http", with = {{ url = "{NOBODY}" }}, {never}'
    result = run(f"{url}/none", tmp_path, gone)
    assert (result.status, result.step) == ("failed", 2)
    assert "none came: ConnectError" in result.reply


def test_a_file_is_shown_by_its_size(url: str, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF" * 100)
    step = 'STEP }, { call = "audio.transcriptions.create", with = { model = "x", file = { "$file" = "a.wav" } }'
    result = run(f"{url}/none", tmp_path, step.replace("STEP", 'expect = [{ at = "status", equals = 200 }]'))
    assert result.status == "failed"
    assert "(400 bytes)" in result.request
    assert 'name="model"' in result.request
    assert "RIFF" not in result.request
