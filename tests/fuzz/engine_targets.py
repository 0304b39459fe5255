"""What the fuzzers call of the engines, as in `targets.py`; it needs torch, llguidance and PyAV."""

from __future__ import annotations

import io
import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from letters import END, START, TOKENS
from recordings import CONTAINERS, OTHERS, RATE, file_of, noise

from ark.chat.grammar import SCHEMA_PARAM, Answer, grammar
from ark.errors import APIError, BadRequest
from ark_backends.kit.grammar import GrammarFailed, Grammars
from ark_backends.whisper.audio import AudioDecoder

LONGEST = 30.0
"""Seconds that one input may take: more is a find."""

MOST_MEMORY = 300
"""Megabytes that a decoder may have had."""

FILES = [*((container, None, RATE) for container in CONTAINERS), *((*made, rate) for made, rate in OTHERS.items())]
"""What media begin as: a container, a codec and a rate."""

KEYWORDS = ("type", "properties", "items", "prefixItems", "additionalProperties", "patternProperties", "anyOf", "oneOf",
            "allOf", "$ref", "enum", "const", "pattern", "minLength", "multipleOf", "minimum", "maxItems", "format",
            "required", "additionalItems", "$anchor", "$id")  # fmt: skip
TEXTS = ("string", "object", "array", "integer", "null", "^[a-z]{1,9}x$", ".*a.{40}b", "([a-z]{1,9}){9}", "(?=a)", "a",
         "#", "#/$defs/a", "#/$defs/b", "#a", "https://example.com/a", "uuid", "\ud83d", "")  # fmt: skip


def schemas(data: bytes) -> None:
    """Whatever the schema, it is refused, or its matcher goes on for a while: in time, and without harm."""
    started = time.monotonic()
    drawn = _Drawn(data)
    schema = _read(data) or _chain(drawn) or _schema(drawn, 6)
    try:
        made = grammar(Answer(schema, SCHEMA_PARAM), None, None)
        assert made is not None
        matcher = _grammars().compile(made)
    except BadRequest as error:
        error.message.encode()
        return
    except RecursionError:
        # Where a request is read, schemas are limited in depth.
        return
    finally:
        assert time.monotonic() - started < LONGEST
    draw, row = random.Random(len(data)), torch.zeros(matcher.words, dtype=torch.int32)
    for _ in range(30):
        try:
            matcher.fill(row)
            bits = row.tolist()
            allowed = [i for i in range(256) if bits[i // 32] >> (i % 32) & 1]
            if matcher.complete or not allowed:
                break
            matcher.consume(draw.choice(allowed))
        except GrammarFailed:
            break
    assert time.monotonic() - started < LONGEST


@cache
def _grammars() -> Grammars:
    return Grammars(TOKENS, hidden=[START], ends=[END])


class _Drawn:
    """Numbers from bytes; 0 when they are used up."""

    def __init__(self, data: bytes) -> None:
        self._rest = iter(data)

    def number(self, below: int) -> int:
        return next(self._rest, 0) % below


def _read(data: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _chain(drawn: _Drawn) -> dict[str, Any] | None:
    """Long chains of references now and then: bytes alone would be many for one."""
    if drawn.number(8):
        return None
    length = 20 * (1 + drawn.number(100))
    key = KEYWORDS[1 + drawn.number(8)]
    definitions: dict[str, Any] = {}
    for i in range(length):
        to = {"$ref": f"#/$defs/{i + 1}"}
        inner: Any = [_schema(drawn, 0), to] if key in ("prefixItems", "anyOf", "oneOf", "allOf") else to
        definitions[str(i)] = {key: {"x": to} if key.endswith("roperties") and key != "additionalProperties" else inner}
    definitions[str(length)] = _schema(drawn, 2)
    return {"$defs": definitions, "$ref": "#/$defs/0"}


def _schema(drawn: _Drawn, depth: int) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(drawn.number(4)):
        key = KEYWORDS[drawn.number(len(KEYWORDS))]
        width = drawn.number(6) ** 3 if drawn.number(4) == 0 else drawn.number(4)
        text = TEXTS[drawn.number(len(TEXTS))]
        number = 10 ** drawn.number(10) - drawn.number(3)
        inner = [_schema(drawn, depth - 1) for _ in range(width)] if depth > 0 else [{}]
        values: dict[str, Any] = {
            "properties": {f"p{i}": one for i, one in enumerate(inner)},
            "patternProperties": {f"^{text}{i}": one for i, one in enumerate(inner)},
            **dict.fromkeys(("items", "additionalProperties", "additionalItems"), inner[0] if inner else width == 2),
            **dict.fromkeys(("prefixItems", "anyOf", "oneOf", "allOf"), inner),
            "enum": [text, number, *range(width)],
            "const": number,
            "required": [f"p{i}" for i in range(width)],
            **dict.fromkeys(("minLength", "multipleOf", "minimum", "maxItems"), number),
        }
        made[key] = values.get(key, text)
    if depth == 6:
        made["$defs"] = {name: _schema(drawn, 4) for name in "ab"}
    return made


def media(data: bytes) -> None:
    """A recording that was changed, or anything else, gives sound or an error of the client's, in time and memory."""
    started = time.monotonic()
    samples = 0
    try:
        for window in _decoder().decode(io.BytesIO(_changed(data)), max_seconds=60.0):
            samples += len(window)
    except APIError as error:
        assert error.status in (400, 415)  # noqa: PT017
        error.message.encode()
    assert samples <= 60 * RATE
    assert time.monotonic() - started < LONGEST
    if sys.platform == "linux":
        assert _memory() < MOST_MEMORY


@cache
def _decoder() -> AudioDecoder:
    return AudioDecoder()


@cache
def _file(number: int) -> bytes:
    container, codec, rate = FILES[number]
    return file_of(noise(0.3 * rate / RATE), container, rate, codec).getvalue()


def _changed(data: bytes) -> bytes:
    """A file that the first byte chooses, with changes of three bytes each: where, in 256ths of the first kilobyte or
    of the whole; what, a byte there or, from 250 on, the end; and which byte. A first byte of 255 takes the rest as it
    is."""
    if not data or data[0] == 255:
        return data[1:]
    found = bytearray(_file(data[0] % len(FILES)))
    for where, what, value in zip(data[1::3], data[2::3], data[3::3], strict=False):
        if what >= 250:
            del found[len(found) * where // 256 :]
        elif found:
            size = min(1024, len(found)) if what % 2 else len(found)
            found[(where * size // 256 + what // 2) % len(found)] = value
    return bytes(found)


def _memory() -> float:
    """Megabytes that the decoder has had at most."""
    with _decoder()._children.child() as child, open(f"/proc/{child.pid}/status") as file:
        peak = next(line for line in file if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024


TARGETS: Mapping[str, Callable[[bytes], None]] = {"schemas": schemas, "media": media}
