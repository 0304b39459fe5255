"""A parser of server-sent events that follows the WHATWG specification instead of what ARK sends."""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE_END = re.compile("\r\n|\r|\n")


@dataclass
class Event:
    data: str
    type: str = "message"


def read_events(text: str) -> list[Event]:
    """The events of a whole stream. Comments are dropped, and so is an event without a blank line after it."""
    events: list[Event] = []
    data: list[str] = []
    kind = ""
    lines = _LINE_END.split(text.removeprefix("\ufeff"))
    for line in lines[:-1]:
        if not line:
            if data:
                events.append(Event("\n".join(data), kind or "message"))
            data, kind = [], ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value
    return events
