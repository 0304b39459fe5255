"""One tool call, read from text as it comes in."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from enum import Enum

import msgspec

from ark.chat.output.stops import partial_end
from ark.chat.tools.custom import INPUT

SPACE = " \t\r\n"

_KEYS = ('"name"', '"arguments"', '"parameters"', '"type"', '"id"')
"""With what the object of a call may begin; anything else is not a call."""
_START = re.compile(r'\{[ \t\r\n]*(?P<key>"[^"]*"?)?(?P<rest>.*)', re.DOTALL)
_NAME = re.compile(r'\{\s*"name"\s*:\s*"(?P<name>[^"]*)(?P<closed>"?)')
_HEAD = re.compile(r'\{\s*"name"\s*:\s*"(?P<name>[^"\\]*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
_RAW = re.compile(r'\{\s*"name"\s*:\s*"(?P<name>[^"\\]*)"\s*,\s*"' + INPUT + r'"\s*:\n')
"""Of a call whose input is written as it is."""
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class Progress(Enum):
    HEAD = "the name is not known yet; all text is kept"
    ARGUMENTS = "inside the arguments"
    TAIL = "behind the arguments, inside the object"
    DONE = "the object is closed"
    MALFORMED = "this is not a call; all text is kept"


class BracketCounter:
    """Finds the end of a JSON object or array, of which `depth` brackets are open already."""

    def __init__(self, depth: int = 0) -> None:
        self._depth = depth
        self._quoted = False
        self._escaped = False

    def end(self, text: str) -> int | None:
        """Index behind the last bracket, or None when it is not in this text."""
        for i, letter in enumerate(text):
            if self._escaped:
                self._escaped = False
            elif self._quoted:
                self._escaped = letter == "\\"
                self._quoted = letter != '"'
            elif letter == '"':
                self._quoted = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return i + 1
        return None


class CallReader:
    """Reads one call, and passes its arguments' JSON on as it comes."""

    def __init__(self) -> None:
        self.progress = Progress.HEAD
        self.text = ""
        """All text while it is not known to be a call; what follows the call when it is done."""
        self.name = ""
        self._input: str | None = None
        """Of a call whose input is written as it is, what is not passed on yet."""
        self._close = ""
        """What ends the input; empty where only the end of the reply does."""

    @property
    def endless(self) -> bool:
        """Nothing but the end of the reply ends the call."""
        return self._input is not None and not self._close

    def push(self, text: str) -> str:
        """The arguments' text that is decided with this text."""
        raise NotImplementedError

    def _read_head(self, heads: Mapping[str, str], text: str, opening: str) -> str:
        """What follows one of some heads, each with the name it says, from the arguments' opening on; empty until it is
        there."""
        self.text += text
        for head, name in heads.items():
            rest = self.text.removeprefix(head).lstrip(SPACE)
            if self.text.startswith(head) and rest.startswith(opening):
                self.name, self.text = name, ""
                self.progress = Progress.ARGUMENTS
                return rest
        seen = self.text.rstrip(SPACE)
        if not any(head.startswith(seen) for head in heads):
            self.progress = Progress.MALFORMED
        return ""

    def _begin_input(self) -> str:
        self._input, self.progress = "", Progress.ARGUMENTS
        return f'{{"{INPUT}": "'

    def _push_input(self, text: str) -> str:
        """Text as the string that it is in JSON."""
        held = f"{self._input}{text}"
        found, close, rest = held.partition(self._close) if self._close else (held, "", "")
        if close:
            self.text, self._input = close[1:] + rest, None
            self.progress = Progress.DONE
        elif self._close:
            found = held[: len(held) - partial_end(held, (self._close,))]
            self._input = held[len(found) :]
        return json.dumps(found, ensure_ascii=False)[1:-1] + '"}' * bool(close)


class NamedReader(CallReader):
    """Reads a name, a separator and arguments: ``look[ARGS]{...}``."""

    def __init__(self, names: Collection[str], separator: str, raw: Collection[str] = ()) -> None:
        """`raw` are the names whose input is written as it is, behind a line break."""
        super().__init__()
        self._heads = {f"{name}{separator}": name for name in names}
        self._raw = {f"{name}{separator}\n": name for name in raw}
        self._brackets = BracketCounter()

    def push(self, text: str) -> str:
        if self.progress is Progress.HEAD:
            for head, name in self._raw.items():
                if (self.text + text).startswith(head):
                    self.name, text = name, (self.text + text).removeprefix(head)
                    return self._begin_input() + self._push_input(text)
            text = self._read_head(self._heads, text, "{")
        if self._input is not None:
            return self._push_input(text)
        if self.progress is not Progress.ARGUMENTS:
            return ""
        end = self._brackets.end(text)
        if end is None:
            return text
        self.text = text[end:]
        self.progress = Progress.DONE
        return text[:end]


class ObjectReader(CallReader):
    """Reads ``{"name": ..., "arguments": {...}}``, and passes the arguments on letter by letter.

    With the keys in another order the call is given whole at its end. The first letters that cannot begin a call decide
    that it is none, so a reply in JSON is held back no longer than it looks like one.
    """

    def __init__(self, names: Collection[str], raw: Collection[str] = (), close: str = "") -> None:
        """`raw` are the names whose input is written as it is, up to a line break and `close`."""
        super().__init__()
        self._names = names
        self._raw = raw
        self._close = f"\n{close}" if close else ""
        self._brackets = BracketCounter()

    def push(self, text: str) -> str:
        arguments = ""
        if self.progress is Progress.HEAD:
            arguments, text = self._head(text)
        if self._input is not None:
            return arguments + self._push_input(text)
        if self.progress is Progress.ARGUMENTS:
            end = self._brackets.end(text)
            if end is None:
                return arguments + text
            arguments += text[:end]
            text = text[end:]
            self.progress = Progress.TAIL
            self._brackets = BracketCounter(1)
            self.text = ""
        if self.progress is Progress.TAIL:
            self._tail(text)
        return arguments

    def _head(self, text: str) -> tuple[str, str]:
        """Arguments of a call that came whole, and the text that is left to read."""
        self.text += text
        if not self._plausible():
            self.progress = Progress.MALFORMED
            return "", ""
        if (raw := _RAW.match(self.text)) and raw["name"] in self._raw:
            self.name = raw["name"]
            rest, self.text = self.text[raw.end() :], ""
            return self._begin_input(), rest
        if match := _HEAD.match(self.text):
            self.name = match["name"]
            rest, self.text = self.text[match.end() :], ""
            self._brackets = BracketCounter()
            self.progress = Progress.ARGUMENTS
            return "", rest
        end = self._brackets.end(text)
        if end is None:
            return "", ""
        end += len(self.text) - len(text)
        arguments = self._whole(self.text[:end])
        if arguments is None:
            self.progress = Progress.MALFORMED
            return "", ""
        self.text = self.text[end:]
        self.progress = Progress.DONE
        return arguments, ""

    def _plausible(self) -> bool:
        """Whether the text so far can become a call of a known function."""
        start = _START.match(self.text)
        if start is None:
            return False
        key = start["key"]
        if key is None:
            return not start["rest"]
        if not any(known.startswith(key) for known in _KEYS):
            return False
        name = _NAME.match(self.text)
        if name is None:
            return True
        if name["closed"]:
            return name["name"] in self._names
        return any(known.startswith(name["name"]) for known in self._names)

    def _whole(self, text: str) -> str | None:
        """The arguments of a whole object, as JSON text; None when it is not a call."""
        try:
            fields = _decode(text)
            self.name = msgspec.json.decode(fields.get("name", b"null"), type=str)
            raw = fields.get("arguments", fields.get("parameters"))
            value = {} if raw is None else msgspec.json.decode(raw)
            if isinstance(value, str):
                # Some models write the arguments' JSON as a string.
                raw = msgspec.Raw(value.encode())
                value = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeError):
            return None
        if self.name not in self._names or not isinstance(value, dict | None):
            return None
        return "{}" if raw is None or value is None else bytes(raw).decode()

    def _tail(self, text: str) -> None:
        """Behind the arguments: more keys, then the closing bracket. Without it the call is over all the same."""
        self.text += text
        seen = self.text.lstrip(SPACE)
        if seen and seen[0] not in ",}":
            self.progress = Progress.DONE
        elif seen and (end := self._brackets.end(text)) is not None:
            self.text = text[end:]
            self.progress = Progress.DONE
