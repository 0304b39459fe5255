"""The scripts of ``ark completion``, read by the shells they are for."""

from __future__ import annotations

import argparse
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ark.cli import main, parser

pytest.importorskip("shtab")

COMMANDS = {
    "ps",
    "run",
    "serve",
    "check",
    "pull",
    "models",
    "chat",
    "embed",
    "transcribe",
    "bench",
    "key",
    "completion",
}


@pytest.fixture
def script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Path]:
    """Writes the script of a shell that is here, beside a directory and a file to be found."""

    def write(shell: str) -> Path:
        if shutil.which(shell) is None:
            pytest.skip(f"there is no {shell} here")
        assert main(["completion", shell]) == 0
        path = tmp_path / f"ark.{shell}"
        path.write_text(capsys.readouterr().out)
        (tmp_path / "directory").mkdir()
        (tmp_path / "file.toml").touch()
        return path

    return write


def said(command: list[str], directory: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory, timeout=60)
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


BASH = 'eval "$(cat "$0")"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_ark; printf "%s\\n" "${COMPREPLY[@]}"'


def test_bash_completes(script: Callable[[str], Path]) -> None:
    path = script("bash")

    def complete(*words: str) -> set[str]:
        return set(said(["bash", "--norc", "-c", BASH, str(path), *words], path.parent).split())

    assert complete("ark", "") >= COMMANDS
    assert complete("ark", "serve", "--ro") == {"--root-path"}
    assert complete("ark", "transcribe", "--format", "v") == {"vtt", "verbose_json"}
    assert complete("ark", "serve", "--config", "fi") == {"file.toml"}
    assert complete("ark", "serve", "") == {"directory"}
    assert complete("ark", "chat", "--model", "") == set()
    assert "complete -o bashdefault -F _shtab_ark ark" in said(
        ["bash", "--norc", "-c", 'eval "$(cat "$0")"; complete -p ark', str(path)], path.parent
    )


def test_fish_completes(script: Callable[[str], Path]) -> None:
    path = script("fish")

    def complete(line: str) -> set[str]:
        shown = said(["fish", "--no-config", "-c", f"source {path}; complete -C '{line}'"], path.parent)
        return {one.partition("\t")[0] for one in shown.splitlines()}

    assert complete("ark ") >= COMMANDS
    assert complete("ark serve --ro") == {"--root-path"}
    assert complete("ark completion ") == {"bash", "zsh", "fish"}
    assert complete("ark serve --config fi") == {"file.toml"}


def test_zsh_takes_it(script: Callable[[str], Path]) -> None:
    path = script("zsh")
    load = 'autoload -U compinit; compinit -u -D; eval "$(cat $0)"; print $_comps[ark]; whence -w _shtab_ark'
    assert said(["zsh", "-f", "-c", load, str(path)], path.parent) == "_shtab_ark\n_shtab_ark: function\n"
    # As a file of the folder that zsh looks in for functions.
    path.rename(path.parent / "_ark")
    load = "fpath=($0 $fpath); autoload -U compinit; compinit -u -D; print $_comps[ark]"
    assert said(["zsh", "-f", "-c", load, str(path.parent)], path.parent) == "_ark\n"


def test_another_shell(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["completion", "csh"])
    assert left.value.code == 2
    assert "bash" in capsys.readouterr().err


def test_every_command_is_completed() -> None:
    (commands,) = (one for one in parser()._actions if isinstance(one, argparse._SubParsersAction))
    assert set(commands.choices) == COMMANDS
