"""The profile `state`: what it finds of a server that is wrong in one way, and what it shows."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flawed_server import serve_plain
from flawed_state import KEYS, app, restart

from ark_conformance import SHIPPED
from ark_conformance.calls import CallSet
from ark_conformance.cli import main
from ark_conformance.clients import Server
from ark_conformance.replay import Result
from ark_conformance.suite import choose, run_all
from ark_conformance.target import Target, TargetError

FLAWS = {
    "all-is-read-again": {"thirty-turns"},
    "it-forgets": {"thirty-turns", "a-reply-by-its-id", "a-tools-result-by-its-id"},
    "no-output-by-id": {"a-reply-by-its-id", "restarted"},
    "no-items": {"a-reply-by-its-id", "a-tools-result-by-its-id"},
    "one-branch-for-all": {"branches", "deleted"},
    "nothing-is-deleted": {"deleted", "restarted"},
    "what-is-behind-is-deleted-too": {"deleted"},
    "an-unknown-id-is-a-beginning": {"deleted", "canaries"},
    "one-owner": {"canaries"},
    "a-restart-loses-all": {"restarted"},
    "a-restart-brings-back-what-was-deleted": {"restarted"},
}
"""Each flaw with the calls that find it."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_plain(app) as url:
        yield url


def ask(url: str, flaw: str) -> list[Result]:
    own, other = KEYS
    server = Server(base_url=f"{url}/{flaw}/v1", api_key=own, other_key=other, timeout=10)
    target = Target.ask(server, chat="word", restart=lambda: restart(flaw))
    calls = CallSet.read([SHIPPED / "state.toml"])
    runs = [(call, variant) for call, variant in choose(calls, "state") if variant == "sync"]
    return list(run_all(runs, calls, target, "state"))


def test_a_server_without_ark_passes(url: str) -> None:
    found = ask(url, "none")
    assert [result.explanation for result in found if result.status == "failed"] == []
    # What needs a model that can remember is the tiny model's alone.
    assert {result.reason for result in found if result.status == "skipped"} == {
        "only the model tiny-chat is known to answer this"
    }
    (chain,) = [result for result in found if result.measured]
    assert len(chain.measured) == 30
    assert {row["prefilled"] - row["new"] for row in chain.measured[1:]} == {0}


@pytest.mark.parametrize(("flaw", "names"), FLAWS.items(), ids=FLAWS)
def test_a_flaw_is_found(url: str, flaw: str, names: set[str]) -> None:
    failed = {result.id for result in ask(url, flaw) if result.status == "failed"}
    assert failed == {f"state/{name}" for name in names}


def test_the_command_shows_each_turn(url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, other = KEYS
    mark = tmp_path / "restarted"
    server = ["--base-url", f"{url}/none/v1", "--api-key", own, "--other-key", other, "--chat-model", "word"]
    files = ["--json", str(tmp_path / "a.json")]
    restarts = ["--restart", f"{sys.executable} -c \"open('{mark}', 'w')\""]
    assert main([*server, "--profile", "state", *files, *restarts]) == 0
    assert mark.exists()
    shown = capsys.readouterr().out
    assert "state/thirty-turns[sync]" in shown
    assert "prefilled" in shown
    results = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["results"]
    measured = next(result["measured"] for result in results if result["name"] == "state/thirty-turns[async]")
    assert [sorted(row) for row in measured] == [["input", "prefilled"], *29 * [["again", "input", "new", "prefilled"]]]


def test_a_restart_that_does_not_happen(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = ["--base-url", f"{url}/none/v1", "--api-key", KEYS[0], "--chat-model", "word", "--profile", "state"]
    only = ["--only", "state/restarted"]
    assert main([*server, *only]) == 2
    assert "nothing restarts the server: --restart" in capsys.readouterr().out
    assert main([*server, *only, "--restart", "exit 3"]) == 1
    assert "the server was not restarted: 'exit 3' ended with the status 3" in capsys.readouterr().out
    with Path("/dev/null").open(encoding="utf-8") as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        assert main([*server, *only, "--restart", "ask"]) == 1
    assert "nobody pressed Enter" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*server, "--restart", "true", "--jobs", "2"])


def test_a_server_that_stays_away(url: str) -> None:
    gone = Target.ask(Server(base_url=f"{url}/none/v1", api_key=KEYS[0]), chat="word", restart=lambda: None)
    target = Target(
        server=Server(base_url="http://127.0.0.1:9/v1"),
        models=gone.models,
        chat="word",
        embedding=None,
        transcription=None,
        restart=lambda: None,
    )
    with pytest.raises(TargetError, match=r"has not answered within 0\.1 seconds"):
        target.restart_and_wait(0.1)
