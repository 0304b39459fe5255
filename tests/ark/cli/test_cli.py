"""The command ``ark``."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from asgi_client import running

from ark import __version__
from ark.cli import main
from ark.config_file import load_config


def made(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    assert main(["key", *arguments]) == 0
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_it_runs_as_a_program() -> None:
    done = subprocess.run([sys.executable, "-m", "ark", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"ark {__version__}\n"


INTERRUPTED = """
import os, runpy, signal, sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == sys.argv[1]:
            sys.argv[1:] = ["key", "team"]
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
runpy.run_module("ark", run_name="__main__")
"""
"""Ctrl-C when a module is imported."""


@pytest.mark.parametrize("module", ["ark.cli", "argparse", "msgspec", "ark.cli.usage", "ark.app"])
def test_ctrl_c_ends_it_quietly_while_it_is_still_imported(module: str) -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, module], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_whoever_reads_its_output_may_stop() -> None:
    command = [sys.executable, "-m", "ark", "key", "team"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 0
    assert said.startswith("The key, which is not kept anywhere: ")
    assert len(said.splitlines()) == 1


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    for command in ("serve", "check", "pull", "models", "chat", "embed", "transcribe", "bench", "key", "completion"):
        assert f"\n    {command}" in shown


@pytest.mark.parametrize(
    "arguments", [["nothing"], ["key"], ["key", ""], ["key", " "], ["key", "a\nb"], ["key", "a", "b"], ["--loud"]]
)
def test_what_is_asked_wrongly(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("usage: ark")


@pytest.mark.parametrize(
    ("arguments", "usage", "says"),
    [
        (["serve", "--prot", "1"], "ark serve", "unrecognized arguments: --prot; did you mean --port?"),
        (["chat", "--modle=x", "--loud"], "ark chat", "--modle=x --loud; did you mean --model?"),
        (["key", "a", "b"], "ark key", "unrecognized arguments: b"),
        (["--verson"], "ark", "did you mean --version?"),
    ],
)
def test_what_is_misspelt_is_told_by_the_command_itself(
    arguments: list[str], usage: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"usage: {usage} [-h]")
    assert lines[-1].startswith(f"{usage}: error: ")
    assert lines[-1].endswith(says)


@pytest.mark.parametrize("columns", [60, 100])
def test_help_fits_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    for command in ("serve", "chat", "bench", "key"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        prose = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
        assert max(len(line) for line in prose) <= columns
        assert len(prose) > 4
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    assert "\n    ark serve ./a-directory ORG/ANOTHER --port 9000\n" in capsys.readouterr().out


def test_every_command_stands_beside_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "\n    transcribe  transcribe a recording" in shown
    assert "\n    serve       serve models" in shown


def test_the_command_alone_tells_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "ark serve" in captured.err


@pytest.mark.parametrize("name", ["team", 'a "b" \\ é 鍵', "[[keys]]", "x = 1 # y", "🔑"])
def test_a_key_is_shown_once_and_its_table_has_the_hash(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    table, shown = made(capsys, name)
    key = shown.split()[-1]
    assert re.fullmatch(r"ark-[A-Za-z0-9_-]{43}", key)
    assert key not in table
    assert tomllib.loads(table) == {"keys": [{"name": name, "sha256": hashlib.sha256(key.encode()).hexdigest()}]}


def test_no_two_keys_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert len({made(capsys, "a")[1] for _ in range(50)}) == 50


def test_tables_follow_each_other_in_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "ark.toml"
    path.write_text(made(capsys, "one")[0] + made(capsys, "two")[0])
    assert [key.name for key in load_config(path, {}).keys] == ["one", "two"]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\nmore\n"])
def test_the_hash_of_a_key_that_is_there(
    ending: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = hashlib.sha256("clé".encode()).hexdigest()
    monkeypatch.setattr(sys, "stdin", io.StringIO("clé" + ending))
    assert made(capsys, "--hash") == (expected + "\n", "")
    monkeypatch.setattr(sys, "stdin", io.StringIO("clé" + ending))
    table, shown = made(capsys, "team", "--hash")
    assert tomllib.loads(table)["keys"] == [{"name": "team", "sha256": expected}]
    assert shown == ""


@pytest.mark.parametrize("text", ["", "\n", " key", "key \n"])
def test_no_key_to_hash(text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    with pytest.raises(SystemExit):
        main(["key", "--hash"])
    assert capsys.readouterr().out == ""


@pytest.mark.anyio
async def test_the_server_takes_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    table, shown = made(capsys, "team")
    async with running(keys=tomllib.loads(table)["keys"]) as client:
        reply = await client.get("/v1/models", headers=[("authorization", f"Bearer {shown.split()[-1]}")])
        without = await client.get("/v1/models")
    assert (reply.status, without.status) == (200, 401)
