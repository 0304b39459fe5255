"""What is the same conversation to a server, however a client writes it, and what is another one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ark.sessions.transcript import read_messages

pytestmark = pytest.mark.anyio


def call(number: str, arguments: str, name: str = "look") -> dict[str, Any]:
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}


words = st.text(alphabet='ab é\n<"', max_size=6)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def histories(draw: Any) -> list[dict[str, Any]]:
    """Whole conversations, each of which ends in a reply."""
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(words)})
    for turn in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": draw(words)})
        calls = draw(st.lists(st.dictionaries(words, values, max_size=3), max_size=3))
        if calls:
            made = [call(f"call_{turn}_{n}", json.dumps(arguments)) for n, arguments in enumerate(calls)]
            messages.append({"role": "assistant", "content": draw(words), "tool_calls": made})
            for one in draw(st.permutations(made)):
                messages.append({"role": "tool", "tool_call_id": one["id"], "content": draw(words)})
        messages.append({"role": "assistant", "content": draw(words)})
    return messages


def shuffled(value: Any, draw: Any) -> Any:
    """The same JSON with its keys in another order."""
    if isinstance(value, list):
        return [shuffled(one, draw) for one in value]
    if isinstance(value, dict):
        return {key: shuffled(value[key], draw) for key in draw(st.permutations(list(value)))}
    return value


def written_otherwise(messages: list[dict[str, Any]], draw: Any) -> list[dict[str, Any]]:
    """What another client makes of the same conversation."""
    written = []
    prefix = draw(st.sampled_from(["call_", "toolu_", ""]))
    for message in shuffled(messages, draw):
        content = message["content"]
        if draw(st.booleans()):
            message["content"] = [{"type": "text", "text": content, "cache_control": {"type": "ephemeral"}}]
        elif not content and message["role"] == "assistant":
            message["content"] = draw(st.sampled_from([None, "", []]))
        if message["role"] == "system":
            message["role"] = draw(st.sampled_from(["system", "developer"]))
        if message["role"] == "assistant":
            message.update(
                draw(st.sampled_from([{}, {"reasoning_content": "hm"}, {"refusal": None, "annotations": []}]))
            )
        for one in message.get("tool_calls", ()):
            one["id"] = prefix + one["id"][5:]
            arguments = shuffled(json.loads(one["function"]["arguments"]), draw)
            indent = draw(st.sampled_from([None, 2]))
            one["function"]["arguments"] = draw(
                st.sampled_from([arguments, json.dumps(arguments, indent=indent, ensure_ascii=draw(st.booleans()))])
            )
        if message["role"] == "tool":
            message["tool_call_id"] = prefix + message["tool_call_id"][5:]
        written.append(message)
    return written


@given(st.data())
def test_differences_that_are_not_meant_break_no_match(data: Any) -> None:
    messages = data.draw(histories())
    other = written_otherwise(messages, data.draw)
    assert [m.digest for m in read_messages(other)] == [m.digest for m in read_messages(messages)]


def changed(messages: list[dict[str, Any]], draw: Any) -> tuple[list[dict[str, Any]], int]:
    """The conversation with one difference that anybody can see, and the message in which it is."""
    messages = json.loads(json.dumps(messages))
    index = draw(st.integers(0, len(messages) - 1))
    message = messages[index]
    calls = message.get("tool_calls")
    results = [n for n, one in enumerate(messages) if one["role"] == "tool" and n + 1 < len(messages)]
    pairs = [n for n in results if messages[n + 1]["role"] == "tool"]
    kinds = ["content", "role", "name", "leave out"] + ["arguments", "function", "fewer"] * bool(calls)
    kind = draw(st.sampled_from(kinds + ["swap"] * bool(pairs)))
    if kind == "content":
        message["content"] += "!"
    elif kind == "role":
        message["role"] = "assistant" if message["role"] == "user" else "user"
    elif kind == "name":
        message["name"] = "x"
    elif kind == "leave out":
        del messages[index]
        messages.append({"role": "user", "content": "another end"})
    elif kind == "arguments":
        calls[-1]["function"]["arguments"] = '{"another": 1.5}'
    elif kind == "function":
        calls[-1]["function"]["name"] = "other"
    elif kind == "fewer":
        message["tool_calls"] = calls[:-1]
    else:
        # The same texts, as results of each other's calls.
        index = pairs[0]
        one, other = messages[index], messages[index + 1]
        one["tool_call_id"], other["tool_call_id"] = other["tool_call_id"], one["tool_call_id"]
    return messages, index


@given(st.data())
def test_a_difference_that_can_be_seen_breaks_the_match_from_there_on(data: Any) -> None:
    messages = data.draw(histories())
    other, index = changed(messages, data.draw)
    ours, theirs = read_messages(messages), read_messages(other)
    assert [m.digest for m in ours[:index]] == [m.digest for m in theirs[:index]]
    known = {m.digest for m in ours}
    if other[index] == messages[index]:
        # One of several equal messages was left out.
        return
    assert not known & {m.digest for m in theirs[index:]}
