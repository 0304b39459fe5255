"""The form of call files: what a call is, and what must hold of its reply.

A file is TOML or JSON and converts to `CallFile` or is refused: `CallFileError` names the file, the case and the field.
The whole vocabulary stands here; ``docs/conformance-calls.md`` explains it with examples.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import UNSET, Meta

from ark_conformance.expectations import Check, Fault, Profile
from ark_conformance.methods import find_method
from ark_conformance.paths import PathError, parse_path

Variant = Literal["sync", "async", "raw", "async-raw", "stream", "async-stream", "raw-stream", "async-raw-stream"]
"""How a case is replayed: with the plain or the asyncio client; with its ``with_raw_response`` methods; as a stream."""

Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_]*$")]
CaseName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


SOCKET = "responses.connect"
"""The call that opens a WebSocket, sends its ``messages`` and gives the events that come as those of a stream. Between
the messages a number reads so many events, and ``end`` all up to the end of a response."""

NEEDS = frozenset(
    {
        "all_minilm",
        "ark",
        "chat",
        "embedding",
        "english_alone",
        "key",
        "reasoning",
        "rerank",
        "tiny_chat",
        "transcription",
        "translation",
        "whisper_tiny_en",
    }
)
"""What a case may need of the server, beside ``parameter:NAME``, ``embedding:NAME`` and ``transcription:NAME``, each
with ``no_`` before it too."""


class CallFileError(Exception):
    """A call file cannot be used; the message names the file, the case and the reason."""


class Saved(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a later step calls ``${name}``."""

    at: str
    matches: str | None = None
    """A regular expression whose first group is taken."""


class Sum(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number of a reply. Each part is a path, or a named value as ``${name}``."""

    plus: Annotated[tuple[str, ...], Meta(min_length=1)]
    minus: tuple[str, ...] = ()


class Step(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"arguments": "with"}):
    """One call and what must hold of its reply."""

    call: str
    """A method of the client, as ``chat.completions.create``; or ``http``, a request as it stands; or ``close``, which
    leaves a stream that an earlier step has held; or ``restart``, which restarts the server."""
    arguments: dict[str, Any] = {}
    """Written ``with``. What the client's method does not know is sent in the body."""
    stream_with: dict[str, Any] = {}
    """More arguments where the step is a stream."""
    stream: bool | None = None
    """Whether this step is a stream, whatever the variant says."""
    key: Literal["own", "other", "limited", "wrong", "none"] = "own"
    client: str = "first"
    """Clients of different names have different cookie jars."""
    strict: bool = True
    """Whether the client checks every field of the reply against its types."""
    leave_after: int | None = None
    """The client goes after so many events of the stream."""
    hold: str | None = None
    """The stream stays open, behind `leave_after` events, until ``close`` names it. Several may have one name."""
    repeat: Annotated[int, Meta(ge=1)] = 1
    """The step is made so often, and everything must hold each time; ``${round}`` counts from 1."""
    within: float | None = None
    """The step is repeated for so many seconds until everything holds, or `until` does."""
    times: int | None = None
    """It is made so many times at most."""
    until: tuple[Check, ...] = ()
    """The step is repeated until these hold, and only then looked at: how often depends on the server."""
    or_skip: str | None = None
    """Where `until` never holds, the case is skipped with this reason; it fails where there is none."""
    error: Fault | None = None
    holds: tuple[str, ...] = ()
    """Shapes that hold of the reply."""
    measure: dict[Name, Sum] = {}
    """Numbers that checks find at ``measured.NAME``. The report shows them where a step of the case repeats."""
    expect: tuple[Check, ...] = ()
    save: dict[Name, str | Saved] = {}


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"arguments": "with"}):
    """What makes a case of its own of a case with rows: it is added to the last step."""

    name: CaseName
    """Behind the name of the case and a dash."""
    about: str
    arguments: dict[str, Any] = {}
    """Written ``with``."""
    error: Fault | None = None
    expect: tuple[Check, ...] = ()
    profiles: tuple[Profile, ...] | None = None
    needs: tuple[str, ...] = ()


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call, or a scenario of several with one client."""

    name: CaseName
    about: str
    """One sentence: what holds when the case passes."""
    profiles: tuple[Profile, ...] | None = None
    variants: Annotated[tuple[Variant, ...], Meta(min_length=1)] | None = None
    needs: tuple[str, ...] | None = None
    """What the server must have, see `ark_conformance.target`; the file's are added."""
    even_if_unsupported: bool = False
    """Replayed though the model says that it does not honour a parameter."""
    step: Annotated[tuple[Step, ...], Meta(min_length=1)]
    row: tuple[Row, ...] = ()

    def rows(self) -> tuple[Case, ...]:
        """The cases that the rows make; itself where it has none."""
        *before, last = self.step
        return tuple(
            msgspec.structs.replace(
                self,
                name=f"{self.name}-{row.name}",
                about=row.about,
                profiles=self.profiles if row.profiles is None else row.profiles,
                needs=(*(self.needs or ()), *row.needs) or None,
                row=(),
                step=(
                    *before,
                    msgspec.structs.replace(
                        last,
                        arguments=last.arguments | row.arguments,
                        error=row.error or last.error,
                        expect=last.expect + row.expect,
                    ),
                ),
            )
            for row in self.row
        ) or (self,)


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Checks under a name."""

    about: str
    expect: tuple[Check, ...]
    holds: tuple[str, ...] = ()


class CallFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file. The fields beside `case` are what its cases have when they do not say otherwise."""

    area: CaseName
    about: str
    profiles: tuple[Profile, ...] = ("openai", "ark", "document")
    variants: tuple[Variant, ...] = ("sync",)
    needs: tuple[str, ...] = ()
    defaults: dict[str, dict[str, Any]] = {}
    """For each method, the arguments that a step of the file has when it does not give them."""
    shape: dict[Name, Shape] = {}
    case: tuple[Case, ...] = ()


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A case as it is replayed, with everything that its file says."""

    area: str
    case: Case
    profiles: tuple[Profile, ...]
    variants: tuple[Variant, ...]
    needs: tuple[str, ...]
    directory: Path
    """What its files are relative to."""

    @property
    def id(self) -> str:
        return f"{self.area}/{self.case.name}"


class CallSet(msgspec.Struct, frozen=True, kw_only=True):
    """Calls of any number of files, in their order, and the shapes of all."""

    calls: tuple[Call, ...]
    shapes: dict[str, Shape]

    def checks(self, names: Iterable[str]) -> tuple[Check, ...]:
        """The checks of shapes and of the shapes that these hold."""
        found: list[Check] = []
        for name in names:
            shape = self.shapes[name]
            found += [*self.checks(shape.holds), *shape.expect]
        return tuple(found)

    @classmethod
    def read(cls, paths: Iterable[Path]) -> Self:
        """Read files, and the files of directories. Raises CallFileError."""
        calls: list[Call] = []
        shapes: dict[str, Shape] = {}
        used: list[tuple[str, str, Sequence[str]]] = []
        for path in _files(paths):
            file = read_file(path)
            for name, shape in file.shape.items():
                if name in shapes:
                    raise CallFileError(f"{path}: the shape {name!r} stands twice")
                shapes[name] = shape
                used.append((str(path), f"shape {name}", shape.holds))
            for case in file.case:
                call = _call(file, case, path)
                if any(call.id == other.id for other in calls):
                    raise CallFileError(f"{path}: the case {call.id!r} stands twice")
                calls.append(call)
                used += [(str(path), f"case {case.name}", step.holds) for step in case.step]
        for where, what, names in used:
            for name in names:
                if name not in shapes:
                    raise CallFileError(f"{where}: {what}: there is no shape {name!r}")
        return cls(calls=tuple(calls), shapes=shapes)


def read_file(path: Path) -> CallFile:
    """Read one file. Raises CallFileError."""
    try:
        text = path.read_text(encoding="utf-8")
        table: Any = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise CallFileError(f"{path}: cannot be read: {error}") from error
    try:
        file = msgspec.convert(table, CallFile)
    except msgspec.ValidationError as error:
        raise CallFileError(f"{path}: {_case_of(table, str(error))}{error}") from error
    file = msgspec.structs.replace(file, case=tuple(one for case in file.case for one in case.rows()))
    for need in [*file.needs, *(need for case in file.case for need in case.needs or ())]:
        if need not in NEEDS and not _PARAMETER_NEED.fullmatch(need):
            raise CallFileError(f"{path}: nothing is known of the need {need!r}")
    for case in file.case:
        for number, step in enumerate(case.step, 1):
            try:
                _check_step(step, case.variants or file.variants)
            except (ValueError, PathError) as error:
                raise CallFileError(f"{path}: case {case.name}, step {number}: {error}") from error
    for name, shape in file.shape.items():
        try:
            _check_checks(shape.expect)
        except (ValueError, PathError) as error:
            raise CallFileError(f"{path}: shape {name}: {error}") from error
    return file


_PARAMETER_NEED = re.compile(r"(no_)?(parameter|embedding|transcription):\w+")


def _files(paths: Iterable[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        inside = sorted([*path.glob("*.toml"), *path.glob("*.json")]) if path.is_dir() else [path]
        if not inside:
            raise CallFileError(f"{path}: there are no call files in it")
        found += inside
    return found


def _call(file: CallFile, case: Case, path: Path) -> Call:
    def whole(step: Step) -> Step:
        return msgspec.structs.replace(step, arguments=file.defaults.get(step.call, {}) | step.arguments)

    return Call(
        area=file.area,
        case=msgspec.structs.replace(case, step=tuple(whole(step) for step in case.step)),
        profiles=file.profiles if case.profiles is None else case.profiles,
        variants=file.variants if case.variants is None else case.variants,
        needs=(*file.needs, *(case.needs or ())),
        directory=path.parent,
    )


def _case_of(table: Any, message: str) -> str:
    """``case NAME: `` of a message that names it by its number only."""
    match = re.search(r"\$\.case\[(\d+)\]", message)
    if match is None:
        return ""
    name = table["case"][int(match[1])]
    return f"case {name['name']}: " if isinstance(name, dict) and "name" in name else ""


def _check_step(step: Step, variants: Sequence[Variant]) -> None:
    """What types cannot say. Raises ValueError and PathError."""
    if step.call not in ("http", "close", "restart"):
        method = find_method(step.call)
        if step.call == SOCKET and any(variant != "sync" for variant in variants):
            raise ValueError(f"{SOCKET} is called with the plain client alone")
        if not method.streams and (step.stream or step.leave_after is not None or step.hold is not None):
            raise ValueError(f"{step.call} has no streams")
    streamed = step.stream if step.stream is not None else all("stream" in variant for variant in variants)
    if (step.hold is not None or step.leave_after is not None) and not streamed:
        raise ValueError("only a stream can be left or held")
    if step.or_skip is not None and not step.until:
        raise ValueError("or_skip says why until never holds, and there is no until")
    _check_checks(step.expect)
    _check_checks(step.until)
    for part in (part for measured in step.measure.values() for part in (*measured.plus, *measured.minus)):
        if not part.startswith("${"):
            parse_path(part)
    for saved in step.save.values():
        at = saved if isinstance(saved, str) else saved.at
        parse_path(at)
        if isinstance(saved, Saved) and saved.matches is not None and re.compile(saved.matches).groups < 1:
            raise ValueError(f"{saved.matches!r} has no group to save")


def _check_checks(checks: Iterable[Check]) -> None:
    for check in checks:
        parse_path(check.at)
        says = {name for name in check.__struct_fields__ if name not in ("at", "profile", "within")}
        if all(getattr(check, name) in (None, UNSET) for name in says):
            raise ValueError(f"the check of {check.at!r} says nothing")
        for path in (check.same_as, *(check.sum_of or ()), *((check.cosine.to,) if check.cosine else ())):
            if path is not None:
                parse_path(path)
        if check.matches is not None and "${" not in check.matches:
            try:
                re.compile(check.matches)
            except re.error as error:
                raise ValueError(f"{check.matches!r} is no regular expression: {error}") from error
        _check_checks(check.json or ())
        _check_checks(check.each or ())
