"""A reply's text, split into content and tool calls while it comes in."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Any

import msgspec

from ark.chat.output.stops import partial_end
from ark.chat.tools.call_readers import SPACE, CallReader, NamedReader, ObjectReader, Progress
from ark.chat.tools.formats import ToolFormat
from ark.chat.tools.tagged import TaggedReader

_OUTSIDE_STRINGS = re.compile(r'("(?:[^"\\]|\\.)*"?)|[ \t\r\n]+', re.DOTALL)
"""White space of JSON that means nothing, or a string."""


class ToolCall(msgspec.Struct, frozen=True):
    """A call of a function."""

    id: str
    name: str
    arguments: str
    """JSON as text, as the model wrote it."""


class CallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """What is new of a call. The first delta of a call has its id and name."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class _State(Enum):
    START = "nothing but white space so far"
    TEXT = "content"
    OPENED = "behind the marker, before a call"
    CALL = "inside a call"
    AFTER = "behind a call"
    GAP = "behind what closes a call, before content"


class ToolParser:
    """Passes content on and takes calls out of it. How the text is cut makes no difference.

    Nothing that may begin a call is passed on before that is decided, and nothing else is held back but the white space
    before it, which is dropped beside a call. What only looks like a call is content.
    """

    def __init__(
        self,
        form: ToolFormat,
        schemas: Mapping[str, Mapping[str, Any]],
        *,
        distinct: bool = False,
        raw: Collection[str] = (),
        new_id: Callable[[], str] | None = None,
    ) -> None:
        """`schemas` are those of the arguments of each function that may be called, by its name. `distinct`: a call
        that repeats an earlier one, name and arguments, is not passed on, and nothing behind it is read; so a further
        call comes as a whole."""
        self._form = form
        self._raw = raw
        self._schemas = schemas
        self._new_id = new_id or form.new_id
        self._buffer = ""
        self._kept = ""
        """Text before the call that is being read; it becomes content when it is none."""
        self._reader = self._new_reader()
        self._state = _State.START if form.bare else _State.TEXT
        self._in_array = False
        self._content: list[str] = []
        self._deltas: list[CallDelta] = []
        self._calls = 0
        self._distinct = distinct
        self._earlier: set[tuple[str, str]] = set()
        """The complete calls, where they must be distinct."""
        self._arguments = ""
        self._held: list[CallDelta] = []
        """Of the current call, which may repeat an earlier one until it is complete."""
        self.repeated = False
        """A call was repeated."""
        self.behind = 0
        """Characters behind the last complete call."""

    @property
    def inside_arguments(self) -> bool:
        """The text so far ends inside the arguments of a call."""
        reader = self._reader
        return self._state is _State.CALL and reader.progress is Progress.ARGUMENTS and not reader.endless

    def push(self, text: str) -> tuple[str, list[CallDelta]]:
        """Content, and what is new of calls, that are decided with this text."""
        self._buffer += text
        self.behind += len(text)
        while not self.repeated and self._step():
            pass
        return self._take()

    def flush(self, *, cut: bool = False) -> tuple[str, list[CallDelta]]:
        """What was held back, at the end of the reply. The beginning of a call that `cut` says was cut off is dropped:
        it is no call yet, and was not meant as content."""
        match self._state:
            case _State.OPENED | _State.CALL if cut and (self._calls or self._kept.strip(SPACE)):
                pass
            case _State.TEXT if cut and partial_end(self._buffer, (self._form.marker,)) > (0 if self._calls else 1):
                pass
            case _State.CALL if self._reader.endless and not cut:
                self._held.append(CallDelta(index=self._calls - 1, arguments='"}'))
            case _State.CALL if self._reader.progress is Progress.HEAD:
                self._content.append(self._kept + self._reader.text)
            case _State.OPENED:
                self._content.append(self._kept + self._buffer)
            case _State.START:
                self._content.append(self._buffer)
            case _State.TEXT if self._buffer.strip(SPACE) or not self._calls:
                self._content.append(self._buffer)
        self._deltas += self._held
        self._buffer = self._kept = ""
        self._state = _State.TEXT
        return self._take()

    def _take(self) -> tuple[str, list[CallDelta]]:
        content, deltas = "".join(self._content), self._deltas
        self._content, self._deltas = [], []
        return content, deltas

    def _step(self) -> bool:
        """One step through the buffer; False when more text is needed."""
        match self._state:
            case _State.TEXT:
                return self._text()
            case _State.CALL:
                return self._call()
        text = self._buffer.lstrip(SPACE)
        if not text:
            if self._state in (_State.AFTER, _State.GAP):
                self._buffer = ""
            return False
        match self._state:
            case _State.START if text[0] == "{":
                self._begin(self._buffer[: len(self._buffer) - len(text)], text)
            case _State.START:
                self._state = _State.TEXT
            case _State.OPENED:
                self._opened(text)
            case _State.AFTER:
                return self._after(text)
            case _State.GAP:
                self._buffer = text
                self._state = _State.TEXT
        return True

    def _text(self) -> bool:
        marker = self._form.marker
        place = self._buffer.find(marker)
        if place >= 0:
            before = self._buffer[:place]
            text = before.rstrip(SPACE)
            self._content.append(text)
            self._kept = before[len(text) :] + marker
            self._buffer = self._buffer[place + len(marker) :]
            self._state = _State.OPENED
            return True
        text = self._buffer[: len(self._buffer) - partial_end(self._buffer, (marker,))].rstrip(SPACE)
        self._content.append(text)
        self._buffer = self._buffer[len(text) :]
        return False

    def _opened(self, text: str) -> None:
        """Behind the marker, or behind the comma between two calls."""
        space = self._buffer[: len(self._buffer) - len(text)]
        if not self._form.array or self._in_array:
            self._begin(self._kept + space, text)
        elif text[0] == "[":
            self._in_array = True
            self._kept += space + "["
            self._buffer = text[1:]
        else:
            self._refuse(self._buffer)

    def _begin(self, kept: str, text: str) -> None:
        self._kept, self._buffer = kept, text
        self._reader = self._new_reader()
        self._state = _State.CALL

    def _new_reader(self) -> CallReader:
        if self._form.tagged:
            return TaggedReader(self._schemas)
        if self._form.name_separator:
            return NamedReader(self._schemas, self._form.name_separator, self._raw)
        return ObjectReader(self._schemas, self._raw, self._form.close)

    def _call(self) -> bool:
        if not self._buffer:
            return False
        reader, text = self._reader, self._buffer
        named = reader.progress is not Progress.HEAD
        self._buffer = ""
        arguments = reader.push(text)
        if reader.progress is Progress.MALFORMED:
            self._refuse(reader.text)
            return True
        if not named and reader.progress is not Progress.HEAD:
            self._held = [CallDelta(index=self._calls, id=self._new_id(), name=reader.name)]
            self._arguments = ""
            self._calls += 1
            self._kept = ""
        if arguments:
            self._held.append(CallDelta(index=self._calls - 1, arguments=arguments))
        self._arguments += arguments
        done = reader.progress is Progress.DONE
        if done and self._distinct:
            call = reader.name, _OUTSIDE_STRINGS.sub(r"\1", self._arguments)
            if call in self._earlier:
                self._held, self.repeated = [], True
            self._earlier.add(call)
        if done or not self._earlier:
            self._deltas += self._held
            self._held = []
        if not done:
            return False
        self._buffer = reader.text
        self._state = _State.AFTER
        if not self.repeated:
            self.behind = len(self._buffer)
        return True

    def _refuse(self, text: str) -> None:
        """This is no call: what was kept is content, and the text behind it is read as text again."""
        self._content.append(self._kept)
        self._kept, self._buffer = "", text
        self._in_array = False
        self._state = _State.TEXT

    def _after(self, text: str) -> bool:
        form = self._form
        self._buffer = text
        if form.array and text[0] == ",":
            self._kept, self._buffer, self._state = ",", text[1:], _State.OPENED
        elif form.array:
            self._in_array = False
            self._buffer = text.removeprefix("]")
            self._state = _State.GAP
        elif form.close and text.startswith(form.close):
            self._buffer = text[len(form.close) :]
            self.behind = len(self._buffer)
            self._state = _State.GAP
        elif form.close and form.close.startswith(text):
            return False
        elif form.bare and text[0] in ";{":
            self._kept = ";" if text[0] == ";" else ""
            self._buffer, self._state = text.removeprefix(";"), _State.OPENED
        else:
            self._state = _State.TEXT
        return True
