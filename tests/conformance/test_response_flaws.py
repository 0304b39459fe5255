"""The calls of the Responses API and of stored completions can fail: they find a server that is wrong in one way.

The server is ARK behind a layer that changes requests or replies. Its model says what it is told, under the name that
some calls look for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgi_client import ECHO, make_config
from running import serve

from ark.app import Ark
from ark.http.request import Receive, Scope, Send
from ark_conformance import SHIPPED
from ark_conformance.calls import CallSet
from ark_conformance.clients import Server
from ark_conformance.replay import Result
from ark_conformance.suite import choose, run_all
from ark_conformance.target import Target

MODEL = ECHO | {"name": "tiny-chat", "backend": "faulty_backend:Faulty", "engine": {"all_parameters": True}}
Change = Callable[[dict[str, Any]], object]


def without(field: str) -> Change:
    return lambda value: value.pop(field, None)


def with_value(field: str, value: Any) -> Change:
    return lambda object_: object_.update({field: value}) if field in object_ else None


def in_event(kind: str, change: Change) -> Change:
    return lambda value: change(value) if value.get("type") == f"response.{kind}" else None


def in_response(change: Change) -> Change:
    """Of a body, and of the last event."""
    return lambda value: change(value["response"] if value.get("type") == "response.completed" else value)


def turned(value: dict[str, Any]) -> None:
    if "has_more" in value:
        value["data"].reverse()


REQUESTS: dict[str, tuple[Change, list[str]]] = {
    "nothing-is-remembered": (without("previous_response_id"), ["responses/by-its-id"]),
    "no-conversation": (without("conversation"), ["responses/a-conversation"]),
    "no-instructions": (without("instructions"), ["responses/reads-instructions", "responses/repeats-instructions"]),
    "any-temperature": (without("temperature"), ["responses/refused-temperature-over-2"]),
    "any-choice": (without("tool_choice"), ["responses/refused-a-choice-without-tools"]),
    "everything-is-stored": (with_value("store", True), ["responses/not-stored", "stored/not-stored"]),
    "nothing-is-stored": (with_value("store", False), ["stored/by-its-id", "stored/a-stream", "stored/its-messages"]),
    "no-background": (without("background"), ["responses/in-the-background", "responses/events-from-the-background"]),
    "no-metadata": (with_value("metadata", {}), ["responses/repeats-metadata", "responses/metadata-of-a-conversation"]),
    "no-obfuscation": (without("stream_options"), ["responses/obfuscation"]),
    "no-items": (with_value("items", []), ["responses/items-of-a-conversation"]),
}
"""What is changed in a request, and the calls that find it."""

REPLIES: dict[str, tuple[Change, list[str]]] = {
    "no-usage": (in_response(with_value("usage", None)), ["responses/a-text", "responses/by-its-id"]),
    "numbers-from-1": (
        lambda event: event.update(sequence_number=event.get("sequence_number", 0) + 1),
        ["responses/events-of-any-model"],
    ),
    "one-number": (with_value("sequence_number", 0), ["responses/events-of-any-model"]),
    "no-text": (in_event("output_text.delta", with_value("delta", "")), ["responses/the-events-of-a-text"]),
    "another-text": (in_event("output_text.done", with_value("text", "x")), ["responses/the-events-of-a-text"]),
    "another-item": (in_event("output_text.delta", with_value("item_id", "x")), ["responses/the-events-of-a-text"]),
    "another-end": (in_response(with_value("id", "resp_x")), ["responses/events-of-any-model"]),
    "the-other-order": (turned, ["responses/its-items", "stored/listed-the-oldest-first"]),
    "one-page": (with_value("has_more", False), ["responses/its-items", "stored/listed-the-oldest-first"]),
    "no-more-than-said": (with_value("deleted", False), ["responses/a-deleted-conversation", "stored/deleted"]),
    "an-error-of-no-parameter": (
        lambda body: body["error"].update(param=None) if body.get("error") else None,
        ["responses/refused-temperature-over-2", "stored/a-limit-of-0"],
    ),
    "an-error-without-a-code": (
        lambda body: body["error"].update(code=None) if body.get("error") else None,
        ["responses/deleted", "responses/refused-an-unknown-model"],
    ),
}
"""The same of a reply's body, or of each of its events."""

PATHS = {
    "deletes-nothing": ["responses/deleted", "responses/a-deleted-conversation", "stored/deleted"],
    "lists-everything": ["stored/listed-by-model", "stored/listed-the-oldest-first"],
    "one-key-for-all": ["responses/anothers", "responses/anothers-conversation", "stored/another-keys"],
}
"""The same of what is asked for, and by whom."""

FLAWS = {name: names for name, (_, names) in (REQUESTS | REPLIES).items()} | PATHS


class Flawed(Ark):
    """The first part of a path is the flaw."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        _, flaw, path = scope["path"].split("/", 2)
        scope = {**scope, "path": f"/{path}", "raw_path": f"/{path}".encode()}
        if flaw == "deletes-nothing" and scope["method"] == "DELETE":
            scope["method"] = "GET"
        if flaw == "lists-everything":
            scope["query_string"] = b""
        if flaw == "one-key-for-all":
            scope["headers"] = [
                (name, b"Bearer own" if name == b"authorization" else value) for name, value in scope["headers"]
            ]
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if flaw in REQUESTS and body:
            body = changed(body, REQUESTS[flaw][0])
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
        scope["headers"].append((b"content-length", b"%d" % len(body)))
        given = False

        async def receive_changed() -> Any:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send_changed(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [pair for pair in message["headers"] if pair[0] != b"content-length"]}
            elif flaw in REPLIES and (text := message.get("body")):
                message = {**message, "body": b"\n\n".join(changed(part, REPLIES[flaw][0]) for part in parts(text))}
            await send(message)

        await super().__call__(scope, receive_changed, send_changed)


def parts(text: bytes) -> list[bytes]:
    return text.split(b"\n\n") if text.startswith((b"event:", b"data:")) else [text]


def changed(part: bytes, change: Change) -> bytes:
    head, start, data = part.partition(b"data: ") if b"data: " in part[:200] else (b"", b"", part)
    try:
        value = json.loads(data)
    except ValueError:
        return part
    change(value)
    return head + start + json.dumps(value).encode()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    keys = [{"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest()} for name in ("own", "other")]
    with serve(Flawed(make_config(models=[MODEL], keys=keys))) as server:
        yield server.url


@pytest.fixture(scope="module")
def calls() -> CallSet:
    return CallSet.read([SHIPPED])


def results(url: str, flaw: str, calls: CallSet, names: list[str]) -> list[Result]:
    target = Target.ask(Server(base_url=f"{url}/{flaw}/v1", api_key="own", other_key="other", timeout=10))
    chosen = [(call, variant) for call, variant in choose(calls, "openai", names) if variant in ("sync", "stream")]
    return list(run_all(chosen, calls, target, "openai"))


def test_the_right_server_passes(url: str, calls: CallSet) -> None:
    found = results(url, "none", calls, sorted({name for names in FLAWS.values() for name in names}))
    assert [f"{result.name} {result.explanation}" for result in found if result.status != "passed"] == []


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_is_found(url: str, calls: CallSet, flaw: str) -> None:
    found = results(url, flaw, calls, FLAWS[flaw])
    assert {result.id for result in found if result.status == "failed"} == {*FLAWS[flaw]}
