"""Replay one case: its steps in order, with one set of clients, until a check fails."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from ark_conformance.calls import Call, CallSet, Saved, Step, Sum, Variant
from ark_conformance.checks import fault_problems, problems, show
from ark_conformance.clients import AnyCaller, AsyncCaller, Caller, Outcome, Request
from ark_conformance.expectations import Profile
from ark_conformance.methods import find_method
from ark_conformance.paths import select
from ark_conformance.target import Target, TargetError
from ark_conformance.values import MissingValue, Variables
from ark_conformance.views import view

PAUSE = 0.1
"""Seconds between attempts at a step with ``within``."""
SHOWN = 4000
"""The most characters of a request or reply that a report shows."""

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(kw_only=True)
class Result:
    """The result of one call in one variant."""

    id: str
    area: str
    variant: Variant
    status: Literal["passed", "failed", "skipped"]
    seconds: float = 0.0
    about: str = ""
    reason: str = ""
    """Why the call was skipped."""
    problems: list[str] = field(default_factory=list)
    """One sentence for each check that failed."""
    step: int = 0
    """The number of the step that failed, from 1."""
    request: str = ""
    reply: str = ""
    """Request and reply of the failed step, as sent over the wire."""
    calls: int = 0
    """Number of requests made."""
    answered: bool = True
    """Whether the last request got a reply."""
    measured: list[dict[str, float]] = field(default_factory=list)
    """What the steps of a case with a repeated one measured, by name, for each time that one was made."""

    @property
    def name(self) -> str:
        return f"{self.id}[{self.variant}]"

    @property
    def explanation(self) -> str:
        """A failure in full: the request, the reply and the failed checks."""
        lines = [self.name, f"  {self.about}", "", f"  step {self.step}: failed checks"]
        lines += [f"    - {problem}" for problem in self.problems]
        lines += ["", "  request", _indent(self.request), "", "  reply", _indent(self.reply)]
        return printable("\n".join(lines))


def replay(call: Call, variant: Variant, calls: CallSet, target: Target, profile: Profile) -> Result:
    """Replay a call. Failures are in the result: nothing that a server does raises."""
    reason = target.reason_to_skip(call)
    result = _result(call, variant)
    if reason is not None:
        result.status, result.reason = "skipped", reason
        return result
    caller: AnyCaller = (AsyncCaller if variant.startswith("async") else Caller)(target.server)
    begun = time.monotonic()
    try:
        _Replay(call, result, calls, target=target, profile=profile, caller=caller).run()
    except (MissingValue, _Skipped) as error:
        result.status, result.reason = "skipped", str(error)
    finally:
        caller.close()
        result.seconds = time.monotonic() - begun
    return result


def _result(call: Call, variant: Variant) -> Result:
    return Result(id=call.id, area=call.area, variant=variant, status="passed", about=call.case.about)


class _Skipped(Exception):
    """The server lacks what the rest of the case is about."""


class _Replay:
    def __init__(
        self, call: Call, result: Result, calls: CallSet, *, target: Target, profile: Profile, caller: AnyCaller
    ) -> None:
        self._call = call
        self._variant = result.variant
        self._calls = calls
        self._profile = profile
        self._target = target
        self._caller = caller
        self._result = result
        # One number is no series: it is for the checks alone.
        self._shows_measures = any(step.repeat > 1 for step in call.case.step)
        self._variables = Variables(target.known(), target.missing(), call.directory)

    def run(self) -> None:
        for number, step in enumerate(self._call.case.step, 1):
            self._result.step = number
            for round_ in range(1, step.repeat + 1):
                self._variables.save("round", round_)
                if not self._repeated(step):
                    self._result.status = "failed"
                    return
        self._result.problems = []

    def _repeated(self, step: Step) -> bool:
        """Make a step as often as it says. Returns whether all its checks pass."""
        times = step.times or (1 if step.within is None else sys.maxsize)
        deadline = time.monotonic() + (math.inf if step.within is None else step.within)
        made = 0
        while True:
            holds = self._step(step)
            made += 1
            # The condition of `until` is met; repeating would change nothing.
            if holds is not None and (holds or step.until):
                return holds
            if made >= times or time.monotonic() >= deadline:
                break
            if step.within is not None:
                time.sleep(PAUSE)
        # No reply does not mean that the server lacks the feature.
        if holds is None and step.or_skip is not None and self._result.answered:
            raise _Skipped(str(self._variables.fill(step.or_skip)))
        return False

    def _step(self, step: Step) -> bool | None:
        """Whether all checks pass, or None if those of `until` do not."""
        if step.call == "close":
            try:
                self._caller.leave(step.arguments["stream"])
            except KeyError as error:
                self._result.problems = [f"no stream is held as {error.args[0]!r}"]
                return False
            return True
        if step.call == "restart":
            return self._restarted()
        try:
            request = self._request(step)
        except KeyError as error:
            self._result.problems = [f"nothing is known as ${{{error.args[0]}}}"]
            return False
        except OSError as error:
            self._result.problems = [f"a file cannot be read: {error}"]
            return False
        outcome = self._caller.call(request)
        self._result.calls += 1
        self._result.answered = outcome.exchange is not None and outcome.exchange.status > 0
        try:
            waited_for, found = self._judged(step, outcome)
        except Exception as error:  # noqa: BLE001 - whatever a server sends, the other calls are made
            waited_for, found = [], [f"the reply is of no form that is known: {type(error).__name__}: {error}"]
        self._result.problems = found
        self._result.request = show_request(request, outcome) if found else ""
        self._result.reply = show_reply(outcome) if found else ""
        return None if waited_for else not found

    def _restarted(self) -> bool:
        try:
            self._target.restart_and_wait()
        except TargetError as error:
            self._result.problems = [f"the server was not restarted: {error}"]
            return False
        return True

    def _judged(self, step: Step, outcome: Outcome) -> tuple[list[str], list[str]]:
        """The failed checks of `until`, and those of the step."""
        seen = view(outcome.exchange, outcome.parsed, outcome.error)
        if step.call == "http" and seen.get("status", 0) >= 400:
            # A plain HTTP client does not raise: the error is read from the reply.
            seen["error"] = _error_of(seen)
        seen["measured"] = self._measured(step, seen)
        waited_for = problems(step.until, seen, self._profile, self._variables)
        found = waited_for or self._problems(step, outcome, seen) or self._save(step, seen)
        if self._shows_measures and step.measure:
            self._result.measured.append(seen["measured"])
        return waited_for, found

    def _measured(self, step: Step, seen: dict[str, Any]) -> dict[str, float]:
        """The numbers of a step, without those of which the reply lacks a part."""
        found: dict[str, float] = {}
        for name, asked in step.measure.items():
            number = self._sum(asked, {**seen, "measured": found})
            if number is not None:
                found[name] = number
        return found

    def _sum(self, asked: Sum, seen: dict[str, Any]) -> float | None:
        def value(part: str) -> Any:
            return self._variables.fill(part) if part.startswith("${") else next(iter(select(seen, part)), None)

        plus, minus = ([value(part) for part in parts] for parts in (asked.plus, asked.minus))
        if not all(isinstance(part, (int, float)) for part in (*plus, *minus)):
            return None
        return float(sum(plus) - sum(minus))

    def _request(self, step: Step) -> Request:
        stream = _streams(step, self._variant)
        arguments = {**step.arguments, **(step.stream_with if stream else {})}
        return Request(
            call=step.call,
            arguments=self._variables.fill(arguments),
            key=step.key,
            client=step.client,
            raw="raw" in self._variant and step.call != "http",
            stream=stream,
            leave_after=step.leave_after,
            hold=step.hold,
            strict=step.strict,
        )

    def _problems(self, step: Step, outcome: Outcome, seen: dict[str, Any]) -> list[str]:
        found: list[str] = []
        if step.error is not None:
            if "error" not in seen:
                return [f"no error was raised, but {show(_said(step))} was expected"]
            found += fault_problems(step.error, seen["error"], self._variables)
        elif outcome.error is not None:
            return [f"the client raised {_told(outcome.error)}"]
        checks = (*self._calls.checks(step.holds), *step.expect)
        return found + problems(checks, seen, self._profile, self._variables)

    def _save(self, step: Step, seen: dict[str, Any]) -> list[str]:
        found = []
        for name, what in step.save.items():
            saved = Saved(at=what) if isinstance(what, str) else what
            values = select(seen, saved.at)
            value = values[0] if values else None
            if values and saved.matches is not None:
                match = re.search(saved.matches, value, re.DOTALL) if isinstance(value, str) else None
                values, value = ([1], match[1]) if match else ([], value)
            if not values:
                found.append(f"{name!r} cannot be saved: {saved.at} is {show(value)}")
            else:
                self._variables.save(name, value)
        return found


def _streams(step: Step, variant: Variant) -> bool:
    if step.stream is not None:
        return step.stream
    if "stream" not in variant or step.call == "http":
        return False
    return find_method(step.call).streams


def _error_of(seen: dict[str, Any]) -> dict[str, Any]:
    reply = seen.get("reply")
    error = reply.get("error") if isinstance(reply, dict) else None
    body: dict[str, Any] = error if isinstance(error, dict) else {}
    return {"message": "", **body, "status": seen.get("status")}


def _said(step: Step) -> dict[str, Any]:
    error = step.error
    names = {
        "status": "status",
        "kind": "class",
        "type": "type",
        "code": "code",
        "param": "param",
        "message": "message",
    }
    return {shown: value for name, shown in names.items() if (value := getattr(error, name)) is not None}


def show_request(request: Request, outcome: Outcome) -> str:
    """The request as sent over the wire, without its key."""
    exchange = outcome.exchange
    if exchange is None:
        return f"{request.call}({show(request.arguments)})"
    stream = ", stream=True" if request.stream else ""
    lines = [f"{request.call}{stream} by the key {request.key!r} and the client {request.client!r}"]
    lines.append(f"{exchange.method} {exchange.url}")
    hidden = {"authorization", "user-agent", "accept", "connection", "host"}
    lines += [
        f"{name}: {value}"
        for name, value in exchange.request_headers
        if name.lower() not in hidden and not name.lower().startswith("x-stainless")
    ]
    kind = next((value for name, value in exchange.request_headers if name.lower() == "content-type"), "")
    return "\n".join([*lines, "", _cut(_readable(exchange.request_body, kind))])


def show_reply(outcome: Outcome) -> str:
    exchange = outcome.exchange
    if exchange is None or not exchange.status:
        return f"none came: {_told(outcome.error)}" if outcome.error is not None else "none came"
    lines = [str(exchange.status), *(f"{name}: {value}" for name, value in exchange.headers)]
    text = _cut(exchange.text)
    with suppress(ValueError):
        text = _cut(json.dumps(json.loads(exchange.body), indent=1, ensure_ascii=False))
    return "\n".join([*lines, "", text] + ([] if exchange.complete else ["(the client did not read further)"]))


def _readable(body: bytes, kind: str) -> str:
    """A body as text. The files of a form are shown by their sizes."""
    _, _, boundary = kind.partition("boundary=")
    if not kind.startswith("multipart/") or not boundary:
        return body.decode("utf-8", "replace")
    parts = body.split(b"--" + boundary.strip('"').encode())
    return f"--{boundary}".join(_readable_part(part) for part in parts)


def _readable_part(part: bytes) -> str:
    head, blank, data = part.partition(b"\r\n\r\n")
    if b"filename=" in head:
        data = b"(%d bytes)\r\n" % len(data.removesuffix(b"\r\n"))
    return (head + blank + data).decode("utf-8", "replace")


def printable(text: str) -> str:
    """Escape control characters and what cannot be encoded as UTF-8."""
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"


def _told(error: BaseException) -> str:
    """Describe an error with its cause: the client itself says little about a lost connection."""
    cause = f" ({type(error.__cause__).__name__}: {error.__cause__})" if error.__cause__ is not None else ""
    return f"{type(error).__name__}: {_first_lines(str(error))}{_first_lines(cause)}"


def _first_lines(text: str, lines: int = 6) -> str:
    parts = text.splitlines()
    return "\n".join(parts[:lines])


def _indent(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
