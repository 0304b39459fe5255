"""`ark-conformance` and `ark-conformance record`, as a user runs them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from flawed_server import KEY, app, serve_plain

from ark_conformance.calls import read_file
from ark_conformance.cli import main


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_plain(app) as url:
        yield url


def server(url: str, flaw: str = "none") -> list[str]:
    return ["--base-url", f"{url}/{flaw}/v1", "--api-key", KEY]


def test_a_run_that_passes(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--json", str(tmp_path / "a.json"), "--junit", str(tmp_path / "a.xml")]
    assert main([*server(url), "--only", "streaming/done-*", "--only", "audio", *files]) == 0
    shown = capsys.readouterr().out
    assert "of the profile openai" in shown
    assert "skipped: there is no transcription model" in shown
    found = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert (found["passed"], found["failed"]) == (2, 0)
    assert found["skipped"] > 20
    assert KEY not in (tmp_path / "a.json").read_text(encoding="utf-8")
    suites = {suite.get("name"): suite for suite in ET.parse(tmp_path / "a.xml").getroot()}
    assert suites["streaming"].get("failures") == "0"
    assert suites["audio"].get("skipped") == suites["audio"].get("tests")


def test_a_failure_shows_request_reply_and_expectation(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*server(url, "no-done"), "--only", "streaming/done-is-the-end[stream]", "--jobs", "2"]) == 1
    shown = capsys.readouterr().out
    assert "[DONE] is the last event" in shown
    assert "POST http://127.0.0.1" in shown
    assert '"stream":true' in shown
    assert "chat.completion.chunk" in shown
    assert 'stream.events[-1].data is "' in shown
    assert KEY not in shown


def test_what_cannot_be_run(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run in which nothing ran has not passed."""
    assert main([*server(url), "--only", "audio"]) == 2
    assert main(["--base-url", f"{url}/none/v1", "--api-key", "sk-wrong"]) == 2
    assert main(["--base-url", "http://127.0.0.1:9/v1"]) == 2
    bad = tmp_path / "bad.toml"
    bad.write_text("area = 1", encoding="utf-8")
    assert main([*server(url), str(bad)]) == 2
    assert str(bad) in capsys.readouterr().err


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--profile", "openai", "--only", "models"]) == 0
    shown = capsys.readouterr().out
    assert "models/the-list  (openai, ark, document; sync, async, raw)" in shown
    assert "chat/" not in shown


SCRIPT = """
import asyncio
import openai

options = {{"base_url": "{url}/none/v1", "api_key": "{key}", "max_retries": 0}}
client = openai.OpenAI(**options)
first = client.chat.completions.create(model="right", messages=[{{"role": "user", "content": "Hello"}}])
said = first.choices[0].message.content
history = [{{"role": "user", "content": "Hello"}}, {{"role": "assistant", "content": said}}]
for chunk in client.chat.completions.create(model="right", messages=history, stream=True):
    pass
try:
    client.chat.completions.create(model="right", messages=history, temperature=9)
except openai.BadRequestError:
    pass


async def more():
    async with openai.AsyncOpenAI(**options) as client:
        await client.embeddings.create(model="right-embedding", input=["one", "two"], encoding_format="float")
        await client.models.list()


asyncio.run(more())
"""


def test_a_recorded_script_is_replayed(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "my_script.py"
    script.write_text(SCRIPT.format(url=url, key=KEY), encoding="utf-8")
    output = tmp_path / "my.calls.toml"
    assert main(["record", "-o", str(output), str(script)]) == 0
    assert "5 calls in" in capsys.readouterr().out
    first, second, third, fourth, fifth = read_file(output).case[0].step
    assert second.arguments["messages"][1]["content"] == "${reply1_choices_0_message_content}"
    assert first.save == {"reply1_choices_0_message_content": "reply.choices[0].message.content"}
    assert (first.stream, second.stream) == (False, True)
    assert third.error is not None
    assert (third.error.status, third.error.param) == (400, "temperature")
    assert (fourth.call, fifth.call) == ("embeddings.create", "models.list")
    assert main([*server(url), str(output)]) == 0
    # Against a server whose replies have another shape the same file fails.
    assert main([*server(url, "no-usage"), str(output)]) == 1
    assert main([*server(url, "no-done"), str(output)]) == 1


def test_a_script_that_makes_no_calls(tmp_path: Path) -> None:
    script = tmp_path / "empty.py"
    script.write_text("print('hello')", encoding="utf-8")
    assert main(["record", str(script)]) == 2
