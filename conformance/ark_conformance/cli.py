"""The command ``ark-conformance``: replay calls against a server, list them, or record those of a program."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ark_conformance import SHIPPED, __version__
from ark_conformance.calls import CallFileError, CallSet
from ark_conformance.clients import Server
from ark_conformance.expectations import PROFILES, Profile
from ark_conformance.replay import Result
from ark_conformance.report import as_json, as_junit, print_results
from ark_conformance.suite import Run, choose, run_all
from ark_conformance.target import Target, TargetError

ASK = "ask"
"""For a command: a person restarts the server."""
PASSED, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
"""Exit statuses: no call failed; a call failed; nothing could run; Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["record"]:
        from ark_conformance.record import main as record  # noqa: PLC0415 - it changes the HTTP client

        return record(given[1:])
    parser = _parser()
    options = parser.parse_args(given)
    if options.restart is not None and options.jobs > 1:
        parser.error("--restart would interrupt the other calls of --jobs")
    # Calls give the client bad arguments on purpose, and it warns of them.
    logging.getLogger("openai").setLevel(logging.ERROR)
    console = Console(stderr=False, soft_wrap=True)
    errors = Console(stderr=True, soft_wrap=True)
    try:
        calls = CallSet.read(options.files or [SHIPPED])
        if options.list:
            return _list(console, _chosen(calls, options.profile or "ark", options))
        target = _target(options)
        profile: Profile = options.profile or ("ark" if target.is_ark else "openai")
        runs = _chosen(calls, profile, options)
        for path in (options.json, options.junit):
            if path is not None:
                # Fail before the calls are made rather than lose their results.
                path.open("ab").close()
    except (CallFileError, TargetError, _NoCallsError, OSError) as error:
        errors.print(str(error), style="red", markup=False, highlight=False)
        return UNUSABLE
    console.print(
        f"{len(runs)} calls of the profile {profile} against {target.server.base_url}: "
        f"chat {target.chat}, embedding {target.embedding}, transcription {target.transcription}, "
        f"rerank {target.rerank}",
        markup=False,
        highlight=False,
    )
    results, ended = _run(errors, runs, calls, target=target, profile=profile, jobs=options.jobs)
    print_results(console, results)
    if options.json:
        options.json.write_text(json.dumps(as_json(results, target, profile), indent=1), encoding="utf-8")
    if options.junit:
        options.junit.write_bytes(as_junit(results, profile))
    if ended:
        errors.print(f"{ended}; {len(runs) - len(results)} of {len(runs)} calls were not made", style="red")
    return _status(errors, results, ended)


def _status(errors: Console, results: Sequence[Result], ended: str) -> int:
    if ended:
        return INTERRUPTED if ended == _CTRL_C else FAILED
    if any(result.status == "failed" for result in results):
        return FAILED
    if not any(result.status == "passed" for result in results):
        errors.print("nothing ran", style="red")
        return UNUSABLE
    return PASSED


_CTRL_C = "interrupted"


class _NoCallsError(Exception):
    """No call is selected."""


def _chosen(calls: CallSet, profile: Profile, options: argparse.Namespace) -> list[Run]:
    """Raises _NoCallsError."""
    runs = choose(calls, profile, options.only, options.exclude)
    if not runs:
        what = f" is called {' or '.join(options.only)}: --list shows them" if options.only else " is there"
        raise _NoCallsError(f"no call of the profile {profile}{what}")
    return runs


def _run(
    console: Console, runs: Sequence[Run], calls: CallSet, *, target: Target, profile: Profile, jobs: int
) -> tuple[list[Result], str]:
    """Return the results and the reason why some are missing, or an empty text."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    results: list[Result] = []
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=len(runs))
        failed = 0
        made = run_all(runs, calls, target, profile, jobs=jobs)
        try:
            with closing(made):
                for result in made:
                    results.append(result)
                    failed += result.status == "failed"
                    words = f"{result.area}{f', {failed} failed' if failed else ''}"
                    progress.update(task, advance=1, description=words)
                    # Otherwise every other call would wait for its timeout.
                    if result.status == "failed" and not result.answered and not target.answers():
                        return results, "the server no longer answers"
        except KeyboardInterrupt:
            return results, _CTRL_C
    return results, ""


def _list(console: Console, runs: Sequence[Run]) -> int:
    seen: set[str] = set()
    for call, _ in runs:
        if call.id not in seen:
            seen.add(call.id)
            variants = ", ".join(call.variants)
            console.print(f"{call.id}  ({', '.join(call.profiles)}; {variants})", markup=False, highlight=False)
            console.print(f"    {call.case.about}", markup=False, highlight=False)
    console.print(f"{len(seen)} calls, {len(runs)} with their variants", markup=False, highlight=False)
    return PASSED


def _target(options: argparse.Namespace) -> Target:
    if not options.base_url:
        raise TargetError("no server is named: --base-url URL, or $OPENAI_BASE_URL")
    server = Server(
        base_url=options.base_url,
        api_key=options.api_key,
        other_key=options.other_key,
        limited_key=options.limited_key,
        timeout=options.timeout,
        proxy=options.proxy,
    )
    return Target.ask(
        server,
        chat=options.chat_model,
        embedding=options.embedding_model,
        transcription=options.transcription_model,
        rerank=options.rerank_model,
        body_timeout=options.body_timeout,
        restart=None if options.restart is None else lambda: _restart(options.restart),
    )


def _restart(command: str) -> None:
    """Raises TargetError."""
    if command == ASK:
        print("Restart the server now, then press Enter. ", end="", file=sys.stderr, flush=True)
        if not sys.stdin.readline():
            raise TargetError("nobody pressed Enter")
        return
    status = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, check=False).returncode
    if status:
        raise TargetError(f"{command!r} ended with the status {status}")


def _positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        number = kind(text)
        if not 0 < number < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not over 0")
        return number

    # argparse uses the name in its error message.
    read.__name__ = "number"
    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ark-conformance",
        description="Check what an OpenAI-compatible server implements. `ark-conformance record` makes call files.",
        epilog="Exit status: 0 no call failed, 1 a call failed, 2 nothing could run, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"ark-conformance {__version__}")
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="call files or directories to use instead of the built-in ones",
    )
    parser.add_argument(
        "--base-url",
        default=os.environ.get("OPENAI_BASE_URL"),
        metavar="URL",
        help="including /v1 (default: $OPENAI_BASE_URL)",
    )
    parser.add_argument(
        "--api-key", default=os.environ.get("OPENAI_API_KEY"), metavar="KEY", help="default: $OPENAI_API_KEY"
    )
    parser.add_argument("--other-key", metavar="KEY", help="a second key, to check that keys are isolated")
    parser.add_argument("--limited-key", metavar="KEY", help="a key with a low rate limit, which the calls exhaust")
    parser.add_argument(
        "--body-timeout",
        type=_positive(float),
        metavar="SECONDS",
        help="how long the server waits for the next part of a body",
    )
    parser.add_argument(
        "--restart",
        metavar="COMMAND",
        help="restarts the server; the calls that need it are skipped otherwise. `ask` lets you do it and press Enter",
    )
    parser.add_argument("--profile", choices=PROFILES, help="default: ark if GET /models shows ARK, else openai")
    parser.add_argument("--chat-model", metavar="NAME", help="default: the first of GET /models")
    parser.add_argument("--embedding-model", metavar="NAME", help="the same for embeddings")
    parser.add_argument("--transcription-model", metavar="NAME", help="the same for speech")
    parser.add_argument("--rerank-model", metavar="NAME", help="the same for /rerank")
    parser.add_argument(
        "--only", action="append", default=[], metavar="PATTERN", help="an area or a call, such as chat/usage-*"
    )
    parser.add_argument("--exclude", action="append", default=[], metavar="PATTERN", help="leave these out")
    parser.add_argument("--list", action="store_true", help="list the calls without making them")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results")
    parser.add_argument("--junit", type=Path, metavar="PATH", help="write the results as JUnit XML")
    parser.add_argument(
        "--jobs", type=_positive(int), default=1, metavar="N", help="number of calls at a time (default: 1)"
    )
    parser.add_argument(
        "--timeout",
        type=_positive(float),
        default=60.0,
        metavar="SECONDS",
        help="fail a call after this much silence (default: 60)",
    )
    parser.add_argument("--proxy", metavar="URL", help="an HTTP proxy")
    return parser


if __name__ == "__main__":
    sys.exit(main())
