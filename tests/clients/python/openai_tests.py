"""A plugin for pytest that runs the tests of the package openai against a real server.

Those tests were written for a server that answers anything by a sample. A real one knows only its models and what it
has stored, and refuses what OpenAI's documents call wrong. So before a request is sent its model is renamed, each
sample of an id is replaced by one that was created for it, and what such a sample server does not need is filled in.
`IMPOSSIBLE` lists the tests that no server can pass which keeps to the documents.
"""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from openai import _base_client

MODEL = "gpt-4o"
URL, KEY = os.environ["TEST_API_BASE_URL"], "My API Key"

IMPOSSIBLE = {
    "Responses::test_method_compact": "what OpenAI documents, and sends, begins with the user's messages, which the "
    "client's own type of an output item does not have",
    "Responses::test_raw_response_compact": "the same",
    "Responses::test_streaming_response_compact": "the same",
    "Completions::test_method_create_with_all_params": "it asks for 0 tokens",
}
"""Part of a test's name to the reason why no server can pass it that keeps to OpenAI's documents."""

Body = dict[str, Any]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for part, reason in IMPOSSIBLE.items():
            if part in item.nodeid:
                # Strict: one that passes after all does not belong on the list.
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def ask(path: str, body: Body) -> Any:
    """Create something by a plain request."""
    request = urllib.request.Request(f"{URL}{path}", json.dumps(body).encode(), method="POST")
    request.add_header("content-type", "application/json")
    request.add_header("authorization", f"Bearer {KEY}")
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def new_response(**more: Any) -> str:
    body = {"model": MODEL, "input": "Hello!", "max_output_tokens": 16, **more}
    return str(ask("/responses", body)["id"])


def new_item() -> tuple[str, str]:
    """A conversation and an item of it."""
    items = [{"type": "message", "role": "user", "content": "Hello!"}]
    conversation = ask("/conversations", {"items": items})["id"]
    added = ask(f"/conversations/{conversation}/items", {"items": items})
    return conversation, added["data"][0]["id"]


def new_completion() -> str:
    # The client's type of a stored message has no other role, though OpenAI documents and sends the user's.
    messages = [{"role": "assistant", "content": "Hello!"}]
    body = {"model": MODEL, "messages": messages, "max_tokens": 4, "store": True, "metadata": {"foo": "string"}}
    return str(ask("/chat/completions", body)["id"])


def real_path(path: str, options: Any) -> str:
    """The path with ids of what was created for this request."""
    params = dict(options.params or {})
    if found := re.fullmatch(r"/responses/(?:resp|response)_\w+(/.*)?", path):
        rest = found[1] or ""
        # Only what runs in the background can be cancelled, and read as a stream.
        background = rest == "/cancel" or bool(params.get("stream"))
        number = new_response(background=True, stream=False) if background else new_response()
        if "after" in params:
            options.params = params | {"after": items_of(number)[0], "limit": 1}
        return f"/responses/{number}{rest}"
    if found := re.fullmatch(r"/conversations/conv_123(/items)?(/msg_abc)?", path):
        conversation, item = new_item()
        if "after" in params:
            options.params = params | {"after": item, "limit": 1}
        return f"/conversations/{conversation}{found[1] or ''}{(found[2] and f'/{item}') or ''}"
    if found := re.fullmatch(r"/chat/completions/completion_id(/.*)?", path):
        number = new_completion()
        if "after" in params:
            options.params = {name: value for name, value in params.items() if name != "after"} | {"limit": 1}
        return f"/chat/completions/{number}{found[1] or ''}"
    if path == "/chat/completions" and options.method == "get" and "after" in params:
        options.params = params | {"after": new_completion(), "limit": 1, "model": MODEL}
    return path


def items_of(number: str) -> list[str]:
    request = urllib.request.Request(f"{URL}/responses/{number}/input_items")
    request.add_header("authorization", f"Bearer {KEY}")
    with urllib.request.urlopen(request, timeout=60) as reply:
        return [item["id"] for item in json.load(reply)["data"]]


def real_body(path: str, body: Body) -> Body:
    """The body with what a real server needs."""
    body = dict(body)
    if path in ("/responses", "/responses/compact", "/responses/input_tokens"):
        body["model"] = MODEL
        if "previous_response_id" in body:
            body["previous_response_id"] = new_response()
            # One excludes the other.
            body.pop("conversation", None)
        elif "input" not in body:
            body["input"] = "Hello!"
    if path == "/responses":
        body.setdefault("max_output_tokens", 16)
    if path == "/chat/completions":
        body["model"] = MODEL
    return body


def prepare(options: Any) -> Any:
    options.url = real_path(options.url, options)
    if options.method == "post" and isinstance(options.json_data, dict | None):
        options.json_data = real_body(options.url, options.json_data or {}) or None
    return options


def pytest_configure(config: pytest.Config) -> None:
    plain: Callable[..., Any] = _base_client.SyncAPIClient._prepare_options
    assert plain.__doc__ == "Hook for mutating the given options"

    async def prepare_async(_: Any, options: Any) -> Any:
        return prepare(options)

    _base_client.SyncAPIClient._prepare_options = lambda _, options: prepare(options)  # type: ignore[method-assign]
    _base_client.AsyncAPIClient._prepare_options = prepare_async  # type: ignore[method-assign]
