"""Accumulate the chunks of a stream into a whole reply, and describe their order in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Chunk = dict[str, Any]


def accumulate(chunks: Sequence[Chunk]) -> dict[str, Any]:
    """The whole reply that the chunks of a chat completion add up to. For other streams, the last event's object, and
    for those of responses the response in it."""
    if not any("choices" in chunk for chunk in chunks):
        last = chunks[-1] if chunks else {}
        response = last.get("response")
        return response if isinstance(response, dict) else last
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for name in ("id", "created", "model", "system_fingerprint", "service_tier"):
            if name in chunk:
                whole.setdefault(name, chunk[name])
        if chunk.get("usage") is not None:
            whole["usage"] = chunk["usage"]
        for choice in chunk.get("choices") or ():
            _add(choices.setdefault(choice.get("index", 0), {"message": {}}), choice)
    for index, choice in choices.items():
        choice["index"] = index
        message = choice["message"]
        if not message.get("content"):
            message["content"] = None if "tool_calls" in message or "function_call" in message else ""
    return whole | {"object": "chat.completion", "choices": [choices[index] for index in sorted(choices)]}


def _add(choice: dict[str, Any], chunk: dict[str, Any]) -> None:
    delta, message = chunk.get("delta") or {}, choice["message"]
    if "role" in delta:
        message.setdefault("role", delta["role"])
    for name in ("content", "refusal", "reasoning_content"):
        if isinstance(delta.get(name), str):
            message[name] = message.get(name, "") + delta[name]
    for call in delta.get("tool_calls") or ():
        calls = message.setdefault("tool_calls", [])
        while len(calls) <= call.get("index", 0):
            calls.append({})
        _add_call(calls[call.get("index", 0)], call)
    if delta.get("function_call"):
        _add_function(message.setdefault("function_call", {}), delta["function_call"])
    if chunk.get("finish_reason") is not None:
        choice["finish_reason"] = chunk["finish_reason"]
    if chunk.get("logprobs"):
        logprobs = choice.setdefault("logprobs", {"content": [], "refusal": None})
        logprobs["content"] += chunk["logprobs"].get("content") or []


def _add_call(call: dict[str, Any], delta: dict[str, Any]) -> None:
    for name in ("id", "type"):
        if delta.get(name) is not None:
            call.setdefault(name, delta[name])
    _add_function(call.setdefault("function", {}), delta.get("function") or {})


def _add_function(function: dict[str, Any], delta: dict[str, Any]) -> None:
    if delta.get("name"):
        function["name"] = function.get("name", "") + delta["name"]
    function["arguments"] = function.get("arguments", "") + (delta.get("arguments") or "")


def by_type(chunks: Sequence[Chunk]) -> dict[str, list[Chunk]]:
    """The events of a response by their types, ``output_text_delta`` for ``response.output_text.delta``."""
    found: dict[str, list[Chunk]] = {}
    for chunk in chunks:
        if isinstance(kind := chunk.get("type"), str):
            found.setdefault(kind.removeprefix("response.").replace(".", "_"), []).append(chunk)
    return found


def order(data: str, value: Any) -> list[str]:
    """The words that describe one event, in the order in which its parts count."""
    if data.strip() == "[DONE]":
        return ["done"]
    if not isinstance(value, dict):
        return ["text"]
    if "error" in value:
        return ["error"]
    if "choices" in value:
        words = [word for choice in value["choices"] for word in _choice_words(choice)]
        return [*words, "usage"] if value.get("usage") is not None else words or ["empty"]
    if isinstance(value.get("type"), str):
        return [value["type"]]
    return ["usage"] if "prompt_tokens" in value else ["object"]


def orders(chunks: Sequence[Chunk]) -> list[str]:
    """For each choice, by its index, the words that describe its chunks."""
    words: dict[int, list[str]] = {}
    for chunk in chunks:
        for choice in chunk.get("choices") or ():
            words.setdefault(choice.get("index", 0), []).extend(_choice_words(choice))
    return [" ".join(words[index]) for index in sorted(words)]


def _choice_words(choice: dict[str, Any]) -> list[str]:
    delta = choice.get("delta") or {}
    words = [
        word
        for word, there in (
            ("role", "role" in delta),
            ("reasoning", bool(delta.get("reasoning_content"))),
            ("content", bool(delta.get("content"))),
            ("refusal", bool(delta.get("refusal"))),
            ("tool", bool(delta.get("tool_calls"))),
            ("function", bool(delta.get("function_call"))),
            ("finish", choice.get("finish_reason") is not None),
        )
        if there
    ]
    return words or ["empty"]
