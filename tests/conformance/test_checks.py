"""Which values fail a check, and which pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ark_conformance.checks import problems
from ark_conformance.expectations import Check
from ark_conformance.paths import select
from ark_conformance.streamed_reply import accumulate, orders
from ark_conformance.values import MissingValue, Variables
from ark_conformance.views import stream_view
from ark_conformance.wire import Exchange

SEEN: dict[str, Any] = {
    "a": 1,
    "b": [1, 2, 3],
    "text": "one two",
    "items": [{"n": 2, "v": [1.0, 0.0]}, {"n": 1, "v": [0.6, 0.8]}],
    "json": '{"x": [1, true]}',
    "null": None,
}

VARIABLES = Variables({"one": 1, "dot": "."}, {"lost": "it is lost"}, Path(__file__).parent)


@pytest.mark.parametrize(
    ("holds", "does_not"),
    [
        ({"at": "a", "equals": 1}, {"at": "a", "equals": True}),
        ({"at": "a", "equals": "${one}"}, {"at": "a", "not_equals": "${one}"}),
        ({"at": "c", "present": False}, {"at": "a", "present": False}),
        ({"at": "a", "type": "integer"}, {"at": "a", "type": "string"}),
        ({"at": "null", "type": ["string", "null"]}, {"at": "c", "type": ["string", "null"]}),
        ({"at": "b[*]", "type": "number", "max": 3}, {"at": "b[*]", "max": 2}),
        ({"at": "b", "length": 3}, {"at": "b", "length": 2}),
        ({"at": "b", "contains": 2}, {"at": "b", "lacks": 2}),
        ({"at": "text", "matches": "^one"}, {"at": "text", "matches": "^one${dot}"}),
        ({"at": "b[-1]", "equals": 3}, {"at": "b[3]", "equals": 3}),
        ({"at": "items[*].n", "values": [2, 1]}, {"at": "items[*].n", "values": [1, 2]}),
        ({"at": "items[*].n", "sorted": "descending"}, {"at": "items[*].n", "sorted": "ascending"}),
        ({"at": "items[*].n", "distinct": True}, {"at": "items[*].n", "all_same": True}),
        ({"at": "items[*].n", "count": 2}, {"at": "items[*].n", "count": 1}),
        ({"at": "b[2]", "sum_of": ["b[0]", "b[1]"]}, {"at": "b[2]", "sum_of": ["b[0]", "b[0]"]}),
        ({"at": "a", "same_as": "b[0]"}, {"at": "a", "same_as": "b[1]"}),
        ({"at": "json", "json": [{"at": "x[1]", "equals": True}]}, {"at": "json", "json": [{"at": "y", "equals": 1}]}),
        ({"at": "items[0]", "keys": ["n", "v"]}, {"at": "items[0]", "keys": ["n"]}),
        ({"at": "items[*]", "each": [{"at": "n", "min": 1}]}, {"at": "items[*]", "each": [{"at": "n", "min": 2}]}),
        ({"at": "items[*].v", "norm": 1.0}, {"at": "b", "norm": 1.0}),
        ({"at": "items[0].v", "close_to": [1.0, 0.00001]}, {"at": "items[0].v", "close_to": [1.0, 0.1]}),
        (
            {"at": "items[0].v", "cosine": {"to": "items[1].v", "min": 0.59}},
            {"at": "items[0].v", "cosine": {"to": "items[1].v", "min": 0.61}},
        ),
        ({"at": "a", "one_of": [1, 2]}, {"at": "a", "one_of": ["1"]}),
    ],
)
def test_a_check(holds: dict[str, Any], does_not: dict[str, Any]) -> None:
    assert problems([msgspec.convert(holds, Check)], SEEN, "ark", VARIABLES) == []
    assert len(problems([msgspec.convert(does_not, Check)], SEEN, "ark", VARIABLES)) == 1


def test_a_check_of_another_profile_is_not_made() -> None:
    check = Check(at="a", equals=2, profile="document")
    assert problems([check], SEEN, "ark", VARIABLES) == []
    assert problems([check], SEEN, "document", VARIABLES) == ["a is 1, not 2"]


def test_values() -> None:
    fill = VARIABLES.fill
    assert fill("${one}") == 1
    assert fill("n${one}") == "n1"
    assert fill("$${one}") == "${one}"
    assert fill("${null}") is None
    assert fill({"$repeat": "ab", "times": 2}) == "abab"
    assert fill({"$join": ["a", {"$repeat": "b", "times": 2}]}) == "abb"
    assert fill({"a": {"$unset": True}, "b": [1]}) == {"b": [1]}
    assert fill({"$file": "test_checks.py", "bytes": 3, "times": 2, "name": "a.wav"}) == ("a.wav", b'"""' * 2)
    assert fill("${uuid}") == fill("${uuid}") != fill("${uuid_2}")
    with pytest.raises(MissingValue, match="it is lost"):
        fill("${lost}")
    with pytest.raises(KeyError):
        fill("${unheard}")


def test_paths() -> None:
    assert select(SEEN, "items[*].v[0]") == [1.0, 0.6]
    assert select(SEEN, "$") == [SEEN]
    assert select(SEEN, "a.b[0]") == []


def test_a_stream_adds_up() -> None:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": '{"a": 1}'}}
    chunks = [chunk({"role": "assistant"}), chunk({"tool_calls": [call]}), chunk({"tool_calls": [more]})]
    chunks += [chunk({}, "tool_calls"), {"id": "x", "choices": [], "usage": {"total_tokens": 3}}]
    whole = accumulate(chunks)
    (choice,) = whole["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a": 1}'}
    assert whole["usage"] == {"total_tokens": 3}
    assert orders(chunks) == ["role tool tool finish"]


def test_a_transcript_adds_up() -> None:
    events = [{"type": "transcript.text.delta", "delta": delta} for delta in ("Hello", " there.")]
    events.append({"type": "transcript.text.done", "text": "Hello there."})
    pieces = [b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in events), b"data: [DONE]\n\n"]
    exchange = Exchange("POST", "http://here", [], status=200, pieces=pieces)
    seen = stream_view(exchange)
    assert seen["text"] == "Hello there."
    assert seen["order"] == "transcript.text.delta transcript.text.delta transcript.text.done done"
