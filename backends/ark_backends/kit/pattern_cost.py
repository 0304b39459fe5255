"""How much a regular expression with counted repeats may cost to follow."""

from __future__ import annotations

import re
from dataclasses import dataclass

LARGEST = 10**9
"""Counts and costs stop here: more is as good as without end."""

_QUANTIFIER = re.compile(r"(?P<sign>[*+?])|\{(?P<low>\d+)(?P<comma>,(?P<high>\d*))?\}")
_GROUP = re.compile(r"\?(?::|P?<\w+>|[a-z-]*:?)")
_ESCAPE = re.compile(r"\\(?:[pP]\{[^}]*\}|[xu]\{[^}]*\}|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)", re.DOTALL)
_CLASS = re.compile(r"\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\]", re.DOTALL)


@dataclass(frozen=True)
class _Part:
    """What is known of a part of an expression."""

    low: int = 0
    """Fewest letters that it matches."""
    high: int | None = 0
    """Most of them, None without end."""
    cost: int = 0
    """Places where a text can be in it at once, at most."""
    counter: int = 0
    """How much of the cost is the largest repeat of something of one length. By itself it costs nothing: how often it
    has been repeated is known."""

    @property
    def fixed(self) -> bool:
        return self.low == self.high

    def then(self, other: _Part) -> _Part:
        high = None if self.high is None or other.high is None else min(LARGEST, self.high + other.high)
        return _Part(
            min(LARGEST, self.low + other.low),
            high,
            min(LARGEST, self.cost + other.cost),
            max(self.counter, other.counter),
        )

    def either(self, other: _Part) -> _Part:
        high = None if self.high is None or other.high is None else max(self.high, other.high)
        cost = min(LARGEST, self.cost + other.cost)
        return _Part(min(self.low, other.low), high, cost, max(self.counter, other.counter))

    def repeated(self, least: int, most: int | None) -> _Part:
        low = min(LARGEST, self.low * least)
        high = None if most is None or self.high is None else min(LARGEST, self.high * most)
        times = least if most is None else most
        if times <= 1:
            return _Part(low, high, self.cost, self.counter if most is not None else 0)
        if self.fixed:
            return _Part(low, high, min(LARGEST, self.cost + times), times)
        # Where one repeat ends and the next begins is open, so all combinations are possible at once.
        return _Part(low, high, min(LARGEST, self.cost * times))


_EMPTY, _LETTER = _Part(), _Part(1, 1, 1)


def pattern_cost(pattern: str) -> int:
    """An estimate from above of the places in a pattern where a text can be at once, up to `LARGEST`.

    A derivative of the expression, which is what a lexer keeps while it follows a text, has about so many terms: nested
    counted repeats multiply (``([a-z]{1,100}){1,100}`` is about 10,000), neighbours add up, and a lone repeat in an
    anchored pattern is free however large. What is no regular expression gets some number.
    """
    whole = _read(pattern)
    return whole.cost - whole.counter if pattern.startswith("^") and whole.high is not None else whole.cost


class _Frame:
    """A group that is open: the alternatives before the current one, the current one, and its last part."""

    def __init__(self) -> None:
        self.before: _Part | None = None
        self.current = _EMPTY
        self.last = _EMPTY

    def add(self, part: _Part) -> None:
        self.current = self.current.then(self.last)
        self.last = part

    def end(self) -> _Part:
        self.add(_EMPTY)
        return self.current if self.before is None else self.before.either(self.current)

    def next(self) -> None:
        self.before = self.end()
        self.current = _EMPTY


def _read(pattern: str) -> _Part:
    frames = [_Frame()]
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        frame = frames[-1]
        if letter == "(":
            group = _GROUP.match(pattern, at + 1)
            at = group.end() if group else at + 1
            frames.append(_Frame())
        elif letter == ")" and len(frames) > 1:
            frames.pop()
            frames[-1].add(frame.end())
            at += 1
        elif letter == "|":
            frame.next()
            at += 1
        elif quantifier := _QUANTIFIER.match(pattern, at):
            frame.last = frame.last.repeated(*_bounds(quantifier))
            at = quantifier.end()
            at += pattern.startswith("?", at)  # a lazy one matches the same
        elif letter in "^$":
            frame.add(_EMPTY)
            at += 1
        else:
            token = _ESCAPE.match(pattern, at) or _CLASS.match(pattern, at)
            frame.add(_LETTER)
            at = token.end() if token else at + 1
    while len(frames) > 1:
        frames[-2].add(frames.pop().end())
    return frames[0].end()


def _bounds(quantifier: re.Match[str]) -> tuple[int, int | None]:
    if sign := quantifier["sign"]:
        return {"*": (0, None), "+": (1, None), "?": (0, 1)}[sign]
    low = _count(quantifier["low"])
    if not quantifier["comma"]:
        return low, low
    return low, _count(quantifier["high"]) if quantifier["high"] else None


def _count(digits: str) -> int:
    return LARGEST if len(digits) > 9 else int(digits)
