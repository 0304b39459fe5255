"""The commands that ask a server, against one in a process of its own."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import socket
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certificates import self_signed
from process import EXAMPLES, launch
from rich.console import Console
from written_speech import recording

from ark.cli import main
from ark.cli.bench import percentile
from ark.cli.chat import waiting
from ark.cli.client import CommandError
from ark.cli.embed import cosine
from ark.cli.ps import Metrics, size

KEY = "ark-test-key"
CONFIG = f"""
[[keys]]
name = "team"
sha256 = "{hashlib.sha256(KEY.encode()).hexdigest()}"

[[models]]
name = "echo"
backend = "echo_backend:EchoBackend"

[[models]]
name = "hash [bold]"
task = "embedding"
backend = "hash_embeddings:HashEmbeddings"
dimensions = [8]
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with launch(tmp_path_factory.mktemp("server"), CONFIG) as server:
        server.listening()
        yield f"http://127.0.0.1:{server.port}"


def told(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> tuple[str, str]:
    """Standard output and standard error of a command."""
    found = main(list(arguments))
    captured = capsys.readouterr()
    assert found == status, captured.err
    return captured.out, captured.err


def test_models(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = told(capsys, "models", "--url", url, "--key", KEY)
    assert re.search(r"^echo +chat +ready +gpt-3.5-turbo", out, re.MULTILINE)
    assert "hash [bold]" in out
    # Each whole, in the 80 columns of a terminal.
    assert {"text-embedding-ada-002", "text-embedding-3-small", "text-embedding-3-large"} <= set(out.split())
    listed, _ = told(capsys, "models", "--url", f"{url}/v1/", "--key", KEY, "--json")
    assert {model["id"] for model in json.loads(listed)["data"]} >= {"echo", "hash [bold]", "gpt-4o"}


def test_ps(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = told(capsys, "ps", "--url", url, "--key", KEY)
    assert re.search(r"^echo +chat +ready +0 +0", out, re.MULTILINE)
    assert "hash [bold]" in out
    assert "gpt-4o" not in out
    assert re.search(
        r"^\d+ sessions with transcripts of .*B, \d+ MiB of memory, up for 0 d 0 h \d+ min$", out, re.MULTILINE
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('# HELP x\nark:kv{model_name="a \\"b\\" \\\\"} 5.0\n', 5.0),
        ('ark:kv{le="1",model_name="a \\"b\\" \\\\"} 2\n', 2.0),
        ('ark:kv{model_name="other"} 5.0\n', None),
        ("", None),
    ],
)
def test_metrics_are_read(text: str, value: float | None) -> None:
    assert Metrics(text).of("kv", 'a "b" \\') == value


@pytest.mark.parametrize("text", ["<html>", "Not found"])
def test_what_are_no_metrics(text: str) -> None:
    with pytest.raises(CommandError, match="Prometheus"):
        Metrics(text)


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (2048, "2 KiB"), (5 << 20, "5 MiB"), (3 << 29, "1.5 GiB")])
def test_sizes(count: float, text: str) -> None:
    assert size(count) == text


class TestRun:
    @pytest.fixture
    def ask(self, url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
        def ask(*arguments: str, given: str = "", status: int = 0) -> tuple[str, str]:
            monkeypatch.setattr(sys, "stdin", io.StringIO(given))
            return told(capsys, "run", "--url", url, "--key", KEY, *arguments, status=status)

        return ask

    def test_a_prompt(self, ask: Any) -> None:
        assert ask("Say it.") == ("Say it.\n", "")

    def test_a_prompt_and_the_standard_input(self, ask: Any) -> None:
        assert ask("Say it.", given="one\ntwo\n")[0] == "Say it.\n\none\ntwo\n"
        assert ask(given="alone\n", status=0)[0] == "alone\n"

    def test_no_prompt(self, ask: Any) -> None:
        out, err = ask(status=1)
        assert (out, err) == ("", "ark: there is no prompt: give one as an argument, or by the standard input\n")

    def test_nothing_is_kept(self, ask: Any, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        ask("x", "--system", "y")
        assert "\n0 sessions" in told(capsys, "ps", "--url", url, "--key", KEY)[0]

    @pytest.mark.parametrize(
        ("content", "reason"), [(None, "cannot be read"), ("{", "is no JSON"), ("[1]", "is no JSON schema")]
    )
    def test_a_schema_that_is_none(self, ask: Any, tmp_path: Path, content: str | None, reason: str) -> None:
        path = tmp_path / "schema.json"
        if content is not None:
            path.write_text(content)
        assert reason in ask("x", "--schema", str(path), status=1)[1]

    def test_a_schema_is_sent(self, ask: Any, tmp_path: Path) -> None:
        """The echo holds to none, and says so."""
        (tmp_path / "schema.json").write_text('{"type": "object"}')
        assert "response_format" in ask("x", "--schema", str(tmp_path / "schema.json"), status=1)[1]

    def test_a_value_out_of_range(self, ask: Any) -> None:
        assert "temperature" in ask("x", "--temperature", "9", status=1)[1]


def test_the_key_and_the_address_from_the_environment(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARK_URL", url)
    monkeypatch.setenv("ARK_API_KEY", KEY)
    assert "echo" in told(capsys, "models")[0]


@pytest.mark.parametrize("command", [["models"], ["ps"], ["run", "a"], ["chat"], ["embed", "a"], ["bench"]])
def test_a_wrong_key(command: list[str], url: str, capsys: pytest.CaptureFixture[str]) -> None:
    where = [url] if command == ["bench"] else ["--url", url]
    out, err = told(capsys, *command, *where, "--key", "wrong", status=1)
    assert out == ""
    assert "[401] (give a key by --key or $ARK_API_KEY)" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("command", [["models"], ["ps"], ["run", "a"], ["chat"], ["embed", "a"], ["bench"]])
@pytest.mark.parametrize("address", ["http://127.0.0.1:{port}", "nowhere", "http://", "http://[", "http://x:1x"])
def test_no_server(command: list[str], address: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    where = address.format(port=port)
    out, err = told(capsys, *command, *([where] if command == ["bench"] else ["--url", where]), status=1)
    assert out == ""
    assert re.match(r"ark: (no server answers at|.* is not the address of a server)", err)


def test_a_certificate_that_nobody_trusts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = self_signed(tmp_path)
    with launch(tmp_path, program="ark", arguments=["--certfile", certificate, "--keyfile", key]) as server:
        server.listening()
        url = f"https://127.0.0.1:{server.port}"
        assert "$SSL_CERT_FILE names" in told(capsys, "models", "--url", url, status=1)[1]
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        assert "echo" in told(capsys, "models", "--url", url)[0]


def test_a_server_without_https(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    err = told(capsys, "models", "--url", url.replace("http:", "https:"), status=1)[1]
    assert err.endswith("does not speak HTTPS: try http://\n")


def test_a_key_that_no_header_can_hold(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "key" in told(capsys, "models", "--url", url, "--key", "schlüssel…", status=1)[1]


def test_embed(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = told(capsys, "embed", "--url", url, "--key", KEY, "--dimensions", "8", "größer", "b")
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["text"] for line in lines] == ["größer", "b"]
    assert [len(line["embedding"]) for line in lines] == [8, 8]
    monkeypatch.setattr(sys, "stdin", io.StringIO("größer\nb\n"))
    again, _ = told(capsys, "embed", "--url", url, "--key", KEY, "--dimensions", "8")
    assert again == out


def test_embed_compares(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = told(capsys, "embed", "--url", url, "--key", KEY, "--compare", "a", "b", "a")
    pairs = [line.split("\t") for line in out.splitlines()]
    assert [pair[1:] for pair in pairs] == [["a", "b"], ["a", "a"], ["b", "a"]]
    assert float(pairs[1][0]) == 1.0
    assert float(pairs[0][0]) == float(pairs[2][0]) < 1.0


def test_embed_refuses(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert "there is no text" in told(capsys, "embed", "--url", url, "--key", KEY, status=1)[1]
    assert "[400]" in told(capsys, "embed", "--url", url, "--key", KEY, "--dimensions", "7", "a", status=1)[1]
    assert "[404]" in told(capsys, "embed", "--url", url, "--key", KEY, "--model", "none", "a", status=1)[1]


def test_chat_goes_on_in_its_session(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = str(uuid.uuid4())
    monkeypatch.setattr(sys, "stdin", io.StringIO("hello there\n\n/session\nand again\n/quit\nnever sent\n"))
    out, _ = told(capsys, "chat", "--url", url, "--key", KEY, "--session", session)
    assert "hello there" in out
    assert out.splitlines().count(session) == 1
    assert "never sent" not in out
    turns = re.findall(r"(\d+) of (\d+) prompt tokens cached, \d+ in the reply, first token after \d+ ms", out)
    assert len(turns) == 2
    # The second prompt has the first one in it, though only the new message was sent.
    assert int(turns[1][1]) > int(turns[0][1])


def test_chat_begins_anew(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("/session\none\n/turns\n/new\n/turns\none\n/session\n"))
    out, _ = told(capsys, "chat", "--url", url, "--key", KEY, "--system", "Be short.")
    ids = re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", out)
    assert len(set(ids)) == 2
    prompts = re.findall(r"of (\d+) prompt tokens", out)
    assert prompts[0] == prompts[1]
    # One turn's figures in the first session, none yet in the second.
    assert out.count("first token, ms") == 2
    assert len(re.findall(rf"^ +1 +{prompts[0]} +0 +{prompts[0]} +\d+ +\d+ +\d+\.\d *$", out, re.MULTILINE)) == 1


def test_a_refused_turn_does_not_end_the_chat(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\ntwo\n"))
    out, err = told(capsys, "chat", "--url", url, "--key", KEY, "--temperature", "9", status=1)
    assert [line.startswith("ark: ") and line.endswith("[400]") for line in err.splitlines()] == [True, True]
    assert out == ""


def test_a_named_session_has_its_system_message(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["chat", "--url", url, "--key", KEY, "--session", str(uuid.uuid4()), "--system"]
    for text, status in (("Be short.", 0), ("Be short.", 0), ("Be long.", 1)):
        monkeypatch.setattr(sys, "stdin", io.StringIO("one\n"))
        _, err = told(capsys, *arguments, text, status=status)
    assert "The system message is not the one" in err
    with pytest.raises(SystemExit):
        main(["chat", "--session", "mine"])
    assert "--session: 'mine' is no UUID, such as " in capsys.readouterr().err


def test_bench(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--key", KEY, "--clients", "3", "--requests", "7", "--prompt-words", "5", "--max-tokens", "9"]
    out, _ = told(capsys, "bench", url, *arguments, "--json")
    figures = json.loads(out)
    assert figures["requests"] == 7
    assert figures["failures"] == {}
    assert 0 < figures["first_token_ms"]["p50"] <= figures["whole_reply_ms"]["p99"]
    assert 7 <= figures["completion_tokens"] <= 63
    shown, _ = told(capsys, "bench", url, *arguments)
    lines = shown.splitlines()
    assert lines[1].startswith("first token, ms")
    assert re.fullmatch(r"7 requests, 0 failed, \d+\.\d tokens/s, \d+ of \d+ prompt tokens cached", lines[-1])
    assert shown.endswith("\n")


def test_bench_asks_nothing_twice_unless_it_is_told_to(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--key", KEY, "--clients", "1", "--requests", "1", "--max-tokens", "2000", "--json"]

    def asked(*more: str) -> int:
        figures = json.loads(told(capsys, "bench", url, *arguments, *more)[0])
        return int(figures["completion_tokens"])

    # The echo's replies are as long as the words, which differ in length.
    assert asked("--seed", "5") == asked("--seed", "5")
    assert len({asked() for _ in range(4)}) > 1


def test_bench_in_sessions_grows_its_prompts(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    alone = ["--key", KEY, "--clients", "1", "--requests", "4", "--prompt-words", "5", "--json"]
    single = json.loads(told(capsys, "bench", url, *alone)[0])
    turns = json.loads(told(capsys, "bench", url, *alone, "--turns", "4")[0])
    assert turns["prompt_tokens"] > single["prompt_tokens"]


def test_bench_tells_what_failed(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = told(capsys, "bench", url, "--key", KEY, "--model", "none", "--requests", "3", "--json", status=1)
    figures = json.loads(out)
    assert figures["requests"] == 0
    assert sum(figures["failures"].values()) == 3
    assert "does not exist" in next(iter(figures["failures"]))
    out, err = told(capsys, "bench", url, "--key", KEY, "--model", "none", "--requests", "3", status=1)
    assert "0 requests, 3 failed" in out
    assert err.startswith("ark: 3 failed: The model 'none' does not exist")


def test_transcribe_says_what_is_wrong(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot be read" in told(capsys, "transcribe", "--url", url, "no such file.wav", status=1)[1]
    refused = told(capsys, "transcribe", "--url", url, "--key", KEY, __file__, status=1)[1]
    assert "serves no transcription model" in refused
    with pytest.raises(SystemExit):
        main(["transcribe", __file__, "--words"])


def test_percentiles_and_cosines() -> None:
    assert [percentile([4, 1, 3, 2], p) for p in (50, 90, 99)] == [2, 4, 4]
    assert percentile([7], 50) == 7
    assert cosine([1, 0], [0, 2]) == 0
    assert cosine([3, 4], [6, 8]) == pytest.approx(1)
    assert cosine([0, 0], [1, 1]) == 0


def test_the_seconds_run_in_a_terminal_until_they_are_stopped() -> None:
    screen = io.StringIO()
    with waiting(Console(file=screen, force_terminal=True), time.perf_counter() - 7) as stop_waiting:
        stop_waiting()
        shown = screen.getvalue()
        time.sleep(0.3)
        assert screen.getvalue() == shown
    assert re.search(r"\d\.\d s", shown)
    silent = io.StringIO()
    with waiting(Console(file=silent), time.perf_counter()) as stop_waiting:
        stop_waiting()
    assert silent.getvalue() == ""


def test_transcribe(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    talk = tmp_path / "talk.wav"
    talk.write_bytes(recording("0 1.5 Hello there.", "1.5 3 And again."))
    paths = os.pathsep.join([str(EXAMPLES), str(Path(__file__).parents[2] / "support")])
    speech = '[[models]]\nname = "written"\ntask = "transcription"\nbackend = "written_speech:WrittenSpeech"'
    with launch(tmp_path, speech, environment={"PYTHONPATH": paths}) as server:
        server.listening()
        monkeypatch.setenv("ARK_URL", f"http://127.0.0.1:{server.port}")
        assert told(capsys, "transcribe", str(talk))[0] == "Hello there. And again.\n"
        subtitles = told(capsys, "transcribe", str(talk), "--format", "srt")[0]
        assert "00:00:01,500 --> 00:00:03,000\nAnd again.\n" in subtitles
        words = json.loads(told(capsys, "transcribe", str(talk), "--format", "verbose_json", "--words")[0])
        assert [word["word"] for word in words["words"]] == ["Hello", "there.", "And", "again."]
        assert "[415]" in told(capsys, "transcribe", __file__, status=1)[1]
        assert "[400]" in told(capsys, "transcribe", str(talk), "--language", "xx", status=1)[1]
