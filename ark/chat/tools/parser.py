"""A reply's text, split into content and tool calls while it comes in."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Any

import msgspec

from ark.chat.tools.call import CallReader, NamedReader, Progress, Reader
from ark.chat.tools.formats import ToolFormat
from ark.chat.tools.xml import TaggedReader

_SPACE = " \t\r\n"


class CallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """What a piece of text adds to a call. The first delta of a call has its id and name."""

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
    """Passes content through and takes calls out of it. How the text is cut into pieces makes no difference.

    Nothing that may be the beginning of a call is passed on before it is decided, and nothing else is held back but
    the white space before it, which is dropped beside a call. What only looks like a call is content.
    """

    def __init__(
        self,
        form: ToolFormat,
        names: Collection[str],
        *,
        schemas: Mapping[str, Mapping[str, Any]] | None = None,
        new_id: Callable[[], str] | None = None,
    ) -> None:
        """`names` are the functions that may be called, `schemas` those of their arguments."""
        self._schemas = schemas or {}
        self._form = form
        self._names = names
        self._new_id = new_id or form.new_id
        self._buffer = ""
        self._kept = ""
        """Text before the call that is being read; it becomes content when it is none."""
        self._reader = self._new_reader()
        self._state = _State.START if form.bare else _State.TEXT
        self._begun = False
        self._content: list[str] = []
        self._deltas: list[CallDelta] = []
        self.calls = 0
        """Calls begun so far."""

    @property
    def inside(self) -> bool:
        """The text so far ends inside the arguments of a call."""
        return self._state is _State.CALL and self._reader.progress is Progress.ARGUMENTS

    def push(self, text: str) -> tuple[str, list[CallDelta]]:
        """Content, and what is new of calls, that are decided with this piece."""
        self._buffer += text
        while self._step():
            pass
        return self._take()

    def flush(self) -> tuple[str, list[CallDelta]]:
        """What was held back, at the end of the reply."""
        if self._state is _State.CALL:
            if self._reader.progress is Progress.HEAD:
                self._put(self._kept + self._reader.text)
        elif self._state is _State.OPENED:
            self._put(self._kept + self._buffer)
        elif self._state is _State.START or (
            self._state is _State.TEXT and (self._buffer.strip(_SPACE) or not self.calls)
        ):
            self._put(self._buffer)
        self._buffer = self._kept = ""
        self._state = _State.TEXT
        return self._take()

    def _gap(self) -> bool:
        self._buffer = self._buffer.lstrip(_SPACE)
        if self._buffer:
            self._state = _State.TEXT
        return bool(self._buffer)

    def _take(self) -> tuple[str, list[CallDelta]]:
        content, deltas = "".join(self._content), self._deltas
        self._content, self._deltas = [], []
        return content, deltas

    def _put(self, text: str) -> None:
        if text:
            self._content.append(text)

    def _step(self) -> bool:
        """One step through the buffer; False when more text is needed."""
        return {
            _State.START: self._start,
            _State.TEXT: self._text,
            _State.OPENED: self._opened,
            _State.CALL: self._call,
            _State.AFTER: self._after,
            _State.GAP: self._gap,
        }[self._state]()

    def _start(self) -> bool:
        text = self._buffer.lstrip(_SPACE)
        if not text:
            return False
        if text[0] == "{":
            self._begin(self._buffer[: len(self._buffer) - len(text)], text)
        else:
            self._state = _State.TEXT
        return True

    def _text(self) -> bool:
        marker = self._form.marker
        place = self._buffer.find(marker)
        if place >= 0:
            before = self._buffer[:place]
            text = before.rstrip(_SPACE)
            self._put(text)
            self._kept = before[len(text) :] + marker
            self._buffer = self._buffer[place + len(marker) :]
            self._state = _State.OPENED
            return True
        longest = min(len(marker) - 1, len(self._buffer))
        held = next((n for n in range(longest, 0, -1) if marker.startswith(self._buffer[-n:])), 0)
        text = self._buffer[: len(self._buffer) - held].rstrip(_SPACE)
        self._put(text)
        self._buffer = self._buffer[len(text) :]
        return False

    def _opened(self) -> bool:
        """Behind the marker, or behind the comma between two calls."""
        text = self._buffer.lstrip(_SPACE)
        if not text:
            return False
        if self._form.array and not self._begun and text[0] == "[":
            self._begun = True
            self._kept += self._buffer[: len(self._buffer) - len(text) + 1]
            self._buffer = text[1:]
            return True
        if self._form.array and not self._begun:
            self._refuse(self._buffer)
            return True
        self._begin(self._kept + self._buffer[: len(self._buffer) - len(text)], text)
        return True

    def _begin(self, kept: str, text: str) -> None:
        self._kept, self._buffer = kept, text
        self._reader = self._new_reader()
        self._state = _State.CALL

    def _new_reader(self) -> Reader:
        if self._form.tagged:
            return TaggedReader(self._names, self._schemas)
        between = self._form.between
        return NamedReader(self._names, between) if between else CallReader(self._names)

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
            self._deltas.append(CallDelta(index=self.calls, id=self._new_id(), name=reader.name))
            self.calls += 1
            self._kept = ""
        if arguments:
            self._deltas.append(CallDelta(index=self.calls - 1, arguments=arguments))
        if reader.progress is Progress.DONE:
            self._buffer = reader.text
            self._state = _State.AFTER
            return True
        return False

    def _refuse(self, text: str) -> None:
        """This is no call: what was kept is content, and the text behind it is read as text again."""
        self._put(self._kept)
        self._kept, self._buffer = "", text
        self._begun = False
        self._state = _State.TEXT

    def _after(self) -> bool:
        form = self._form
        text = self._buffer = self._buffer.lstrip(_SPACE)
        if not text:
            return False
        if form.array and text[0] == ",":
            self._kept, self._buffer, self._state = ",", text[1:], _State.OPENED
        elif form.array:
            self._begun = False
            self._buffer = text.removeprefix("]")
            self._state = _State.GAP
        elif form.close and text.startswith(form.close):
            self._buffer = text[len(form.close) :]
            self._state = _State.GAP
        elif form.close and form.close.startswith(text):
            return False
        elif form.bare and text[0] in ";{":
            self._kept = ";" if text[0] == ";" else ""
            self._buffer, self._state = text.removeprefix(";"), _State.OPENED
        else:
            self._state = _State.TEXT
        return True
