"""Judges of what /responses sends: OpenAI's own types and those of Open Responses."""

from __future__ import annotations

import json
from typing import Any

import openresponses_types.types as open_responses
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from sse import read_events

_RESPONSE: TypeAdapter[Any] = TypeAdapter(Response)
_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

_UNKNOWN = ("custom_tool_call", "reasoning_text")
"""Of OpenAI's events, what Open Responses does not have."""


def _open_events() -> dict[str, Any]:
    found = {}
    for name, kind in vars(open_responses).items():
        if name.endswith("StreamingEvent"):
            (value,) = kind.model_fields["type"].annotation
            found[value.value] = kind
    return found


_OPEN_EVENTS = _open_events()


def check_body(body: dict[str, Any]) -> dict[str, Any]:
    """A response's body, judged by both."""
    _RESPONSE.validate_python(body)
    open_responses.ResponseResource.model_validate(_as_open(body))
    return body


def check_event(event: dict[str, Any]) -> None:
    _EVENT.validate_python(event)
    kind = event["type"]
    if any(word in kind for word in _UNKNOWN):
        return
    item = event.get("item")
    if item is not None and item["type"] == "custom_tool_call":
        return
    if "response" in event:
        check_body(event["response"])
        event = event | {"response": _as_open(event["response"])}
    _OPEN_EVENTS[kind].model_validate(event)


def check_stream(text: str) -> list[dict[str, Any]]:
    """The events of a stream: each as both judges want it, in the order that OpenAI promises, and in agreement with
    the response at the end."""
    events = []
    for event in read_events(text):
        data = json.loads(event.data)
        assert event.type == data["type"]
        check_event(data)
        events.append(data)
    assert [event["sequence_number"] for event in events] == [*range(len(events))]
    begun = ["response.created", "response.in_progress"]
    if events[0]["response"]["background"]:
        begun.insert(1, "response.queued")
    assert [event["type"] for event in events[: len(begun)]] == begun
    items: dict[int, dict[str, Any]] = {}
    texts: dict[str, str] = {}
    for event in events:
        kind = event["type"]
        if kind == "response.output_item.added":
            assert event["output_index"] == len(items)
            items[event["output_index"]] = event["item"]
        elif kind == "response.output_item.done":
            assert event["item"]["id"] == items[event["output_index"]]["id"]
            items[event["output_index"]] = event["item"]
        elif kind.endswith(".delta"):
            assert event["item_id"] == items[event["output_index"]]["id"]
            texts[event["item_id"]] = texts.get(event["item_id"], "") + event["delta"]
        elif kind.endswith((".text.done", "_text.done", "arguments.done", "input.done")):
            whole = next(event[key] for key in ("text", "arguments", "input") if key in event)
            assert texts.get(event["item_id"], "") == whole
    last = events[-1]
    if last["type"] in ("response.completed", "response.incomplete"):
        assert last["response"]["output"] == [*items.values()]
    return events


def _as_open(body: dict[str, Any]) -> dict[str, Any]:
    """What Open Responses has no words for is left out: custom tools, and the schema of a format, which its types
    want to be null."""
    body = json.loads(json.dumps(body))
    body["output"] = [item for item in body["output"] if item["type"] != "custom_tool_call"]
    body["tools"] = [tool for tool in body["tools"] if tool["type"] == "function"]
    if isinstance(body["tool_choice"], dict) and body["tool_choice"]["type"] == "custom":
        body["tool_choice"] = "auto"
    if body["text"]["format"]["type"] == "json_schema":
        body["text"]["format"]["schema"] = None
    return body
