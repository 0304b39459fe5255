"""`ark-conformance` and `ark-conformance record`, as a user runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from flawed_server import KEY, app, serve_plain, silent_streams

from ark_conformance.calls import Step, read_file
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
    """A run that makes no call does not pass."""
    assert main([*server(url), "--only", "audio"]) == 2
    assert main(["--base-url", f"{url}/none/v1", "--api-key", "sk-wrong"]) == 2
    assert main(["--base-url", "http://127.0.0.1:9/v1"]) == 2
    bad = tmp_path / "bad.toml"
    bad.write_text("area = 1", encoding="utf-8")
    assert main([*server(url), str(bad)]) == 2
    assert str(bad) in capsys.readouterr().err


def test_a_server_that_is_no_api(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*server(url, "a-page"), "--only", "chat"]) == 2
    shown = capsys.readouterr().err
    assert "200 and text/html, not a list of models" in shown
    assert "/v1" in shown
    assert main(["--base-url", "127.0.0.1:8000/v1"]) == 2
    assert "http://" in capsys.readouterr().err


def test_a_server_without_a_list_of_models(url: str) -> None:
    assert main([*server(url, "no-list"), "--only", "chat/user"]) == 2
    assert main([*server(url, "no-list"), "--only", "chat/user", "--chat-model", "right"]) == 0


def test_nothing_that_is_called_so(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*server(url), "--only", "nonsense"]) == 2
    assert main(["--list", "--only", "nonsense"]) == 2
    assert "is called nonsense" in capsys.readouterr().err


def test_calls_are_chosen_and_excluded_by_patterns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "models", "--only", "limits/a-slow-body"]) == 0
    listed = capsys.readouterr().out
    assert "limits/a-slow-body" in listed
    assert listed.count("models/") > 3
    assert main(["--list", "--only", "models", "--only", "limits/a-slow-*", "--exclude", "models/*"]) == 0
    assert capsys.readouterr().out.endswith("\n1 calls, 2 with their variants\n")
    assert main(["--list", "--only", "models", "--exclude", "models"]) == 2


def test_a_file_that_cannot_be_written_is_said_before_the_calls(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, says in ((tmp_path / "no" / "a.json", "No such file or directory"), (tmp_path, "Is a directory")):
        assert main([*server(url), "--only", "chat/user", "--json", str(path)]) == 2
        shown = capsys.readouterr()
        assert says in shown.err
        assert "calls of the profile" not in shown.out


def test_a_server_that_is_not_there_leaves_no_empty_results(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert main(["--base-url", "http://127.0.0.1:9/v1", "--json", str(path)]) == 2
    assert not path.exists()


@pytest.mark.parametrize("option", ["--jobs", "--timeout", "--body-timeout"])
def test_numbers_that_are_none(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([option, "0"])
    assert "0 is not over 0" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([option, "some"])
    assert "invalid number value: 'some'" in capsys.readouterr().err


def test_a_server_that_falls_silent_ends_the_run(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise every call would wait for its timeout."""
    assert main([*server(url, "silence"), "--only", "chat/a-completion", "--timeout", "1"]) == 1
    shown = capsys.readouterr()
    assert "the server no longer answers; 3 of 4 calls were not made" in shown.err
    assert "none came: APITimeoutError" in shown.out


@pytest.mark.parametrize("variant", ["stream", "async-stream"])
def test_a_stream_that_goes_on_and_on_is_given_up(url: str, capsys: pytest.CaptureFixture[str], variant: str) -> None:
    only = f"streaming/done-is-the-end[{variant}]"
    assert main([*server(url, "a-stream-without-end"), "--only", only, "--timeout", "0.2"]) == 1
    shown = capsys.readouterr().out
    assert "the reply has not ended within 2 seconds" in shown
    assert ": still here" in shown


def test_words_that_a_terminal_would_obey_or_cannot_show(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--json", str(tmp_path / "a.json"), "--junit", str(tmp_path / "a.xml")]
    run = [*server(url, "words-that-cannot-be-shown"), "--only", "errors/an-unknown-model[sync]", *files]
    assert main([*run, "--chat-model", "none"]) == 0
    assert main([*run[:-4], "--only", "chat/user", "--chat-model", "none", *files]) == 1
    shown = capsys.readouterr().out
    assert "Half a character: \\ud800. A bell: \\x07. \\x1b[2JAn empty screen." in shown
    assert "Half a character: \\ud800." in ET.tostring(ET.parse(tmp_path / "a.xml").getroot(), encoding="unicode")
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["failed"] == 1


def test_models_with_details_of_another_kind(url: str) -> None:
    assert main([*server(url, "details-of-another-kind"), "--only", "chat/user"]) == 0


@pytest.mark.parametrize("variant", ["stream", "async-stream"])
def test_ctrl_c_shows_what_was_made(url: str, tmp_path: Path, variant: str) -> None:
    path = tmp_path / "a.json"
    only = ["--only", "chat/user", "--only", f"streaming/done-is-the-end[{variant}]", "--json", str(path)]
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "ark_conformance", *server(url, "silent-streams"), *only],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        while not silent_streams.wait(0.1):
            assert running.poll() is None
        silent_streams.clear()
        running.send_signal(signal.SIGINT)
        shown, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "interrupted; 1 of 2 calls were not made" in errors
    assert "Traceback" not in errors
    assert "chat       1" in shown
    assert json.loads(path.read_text(encoding="utf-8"))["passed"] == 1


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


def test_a_script_that_makes_no_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "empty.py"
    script.write_text("print('hello')", encoding="utf-8")
    assert main(["record", str(script)]) == 2
    assert main(["record", str(tmp_path / "none.py")]) == 2
    assert "there is no such file" in capsys.readouterr().err
    assert main(["record", "-o", str(tmp_path / "none" / "a.toml"), str(script)]) == 2
    assert "there is no such directory" in capsys.readouterr().err


FORMS = """
import openai

with openai.OpenAI(base_url="{url}/none/v1", api_key="{key}", max_retries=0) as client:
    for data in (b"one", b"two", b"one"):
        client.audio.transcriptions.create(model="right", file=("a.wav", data), response_format="text")
    client.embeddings.create(model="right-embedding", input="one")
"""


def test_uploads_and_what_the_client_asks_for_by_itself(url: str, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"mine")
    script = tmp_path / "forms.py"
    script.write_text(FORMS.format(url=url, key=KEY), encoding="utf-8")
    output = tmp_path / "forms.toml"
    assert main(["record", "-o", str(output), str(script)]) == 0
    *spoken, embedded = read_file(output).case[0].step
    assert [step.arguments["file"] for step in spoken] == [
        {"$file": "a-2.wav"},
        {"$file": "a-3.wav"},
        {"$file": "a-2.wav"},
    ]
    contents = [(tmp_path / name).read_bytes() for name in ("a.wav", "a-2.wav", "a-3.wav")]
    assert contents == [b"mine", b"one", b"two"]
    assert "encoding_format" not in embedded.arguments
    assert main([*server(url), str(output)]) == 0
    assert main([*server(url, "no-text"), str(output)]) == 1


@pytest.mark.parametrize(
    ("end", "status"), [("raise KeyboardInterrupt", 130), ("1 / 0", 1), ("raise SystemExit(3)", 1)]
)
def test_what_a_script_did_until_it_ended_is_kept(url: str, tmp_path: Path, end: str, status: int) -> None:
    script = tmp_path / "ends.py"
    lines = ["import openai", f"with openai.OpenAI(base_url='{url}/none/v1', api_key='{KEY}') as client:"]
    script.write_text("\n".join([*lines, " client.models.list()", end]), encoding="utf-8")
    output = tmp_path / "ends.json"
    assert main(["record", "-o", str(output), str(script)]) == status
    assert [step.call for step in read_file(output).case[0].step] == ["models.list"]


def record(folder: Path, url: str, *lines: str, retries: int = 0) -> tuple[int, list[Step]]:
    """Record a script that has a client. Returns the exit status and the steps."""
    script = folder / "mine.py"
    head = ["import openai", f"client = openai.OpenAI(base_url='{url}/v1', api_key='{KEY}', max_retries={retries})"]
    script.write_text("\n".join([*head, *lines, "client.close()"]), encoding="utf-8")
    status = main(["record", "-o", str(folder / "mine.toml"), str(script)])
    return status, list(read_file(folder / "mine.toml").case[0].step)


HELLO = "model='right', messages=[{'role': 'user', 'content': 'Hello'}]"


def test_a_script_finds_the_modules_beside_it(url: str, tmp_path: Path) -> None:
    (tmp_path / "beside_mine.py").write_text("NAME = 'right'", encoding="utf-8")
    lines = ["import beside_mine", "client.embeddings.create(model=beside_mine.NAME, input='one')"]
    status, (step,) = record(tmp_path, f"{url}/none", *lines)
    assert (status, step.arguments["model"]) == (0, "right")
    assert str(tmp_path) not in sys.path


def test_a_stream_that_a_script_left_is_left_in_the_replay(url: str, tmp_path: Path) -> None:
    lines = [f"with client.chat.completions.create({HELLO}, stream=True) as chunks:", "    next(iter(chunks))"]
    status, (step,) = record(tmp_path, f"{url}/none", *lines)
    assert status == 0
    assert step.leave_after is not None
    assert step.stream
    assert main([*server(url), str(tmp_path / "mine.toml")]) == 0
    assert main([*server(url, "another-object"), str(tmp_path / "mine.toml")]) == 0
    assert main([*server(url, "no-role"), str(tmp_path / "mine.toml")]) == 1


def test_an_error_in_a_stream_is_expected(url: str, tmp_path: Path) -> None:
    lines = ["try:", f"    list(client.chat.completions.create({HELLO}, stream=True))", "except openai.APIError: pass"]
    _, (step,) = record(tmp_path, f"{url}/an-error-in-the-stream", *lines)
    assert step.error is not None
    assert step.error.code == "engine_failed"
    assert main([*server(url, "an-error-in-the-stream"), str(tmp_path / "mine.toml")]) == 0
    assert main([*server(url), str(tmp_path / "mine.toml")]) == 1


def test_what_the_client_made_again_by_itself_is_one_call(url: str, tmp_path: Path) -> None:
    lines = [
        f"client.chat.completions.create({HELLO})",
        "client.audio.transcriptions.create(model='right', file=('a.wav', b'one'), response_format='text')",
    ]
    status, steps = record(tmp_path, f"{url}/one-fault-in-two", *lines, retries=1)
    assert status == 0
    assert [step.call for step in steps] == ["chat.completions.create", "audio.transcriptions.create"]
    assert [step.error for step in steps] == [None, None]
    assert main([*server(url), str(tmp_path / "mine.toml")]) == 0


def test_errors_of_no_known_form_and_calls_without_a_reply(url: str, tmp_path: Path) -> None:
    lines = [
        "try:",
        f"    client.chat.completions.create({HELLO}, temperature=9)",
        "except openai.APIError: pass",
        "try:",
        "    client.with_options(base_url='http://127.0.0.1:9/v1').models.list()",
        "except openai.APIError: pass",
    ]
    status, (step,) = record(tmp_path, f"{url}/an-error-of-one-word", *lines)
    assert status == 0
    assert step.error is not None
    assert (step.error.status, step.error.code) == (400, None)
    assert main([*server(url), str(tmp_path / "mine.toml")]) == 0


def test_what_a_script_says_at_its_end_is_shown(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _ = record(tmp_path, f"{url}/none", "client.models.list()", "client.close()", "raise SystemExit('no more')")
    assert status == 1
    assert "no more" in capsys.readouterr().err
