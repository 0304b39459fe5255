"""Stored chat completions: those of requests with ``store: true``. They are kept with the stored responses."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qs

import msgspec

from ark.api.chat.schema import (
    ChatRequest,
    Completion,
    CompletionDeleted,
    CompletionUpdate,
    Metadata,
    StoredCompletion,
    TextPart,
)
from ark.api.pages import page
from ark.api.request import Request, decode_body
from ark.concurrency import run_in_thread_if_large
from ark.errors import invalid_value
from ark.http.response import Response
from ark.services import Services
from ark.sessions.response_node import Node, Record

_encode = msgspec.json.Encoder().encode
_update = msgspec.json.Decoder(CompletionUpdate)
_REPEATED = (
    *("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed"),
    *("tools", "tool_choice", "response_format"),
)
"""Parameters that a stored completion repeats."""


class _Listed(msgspec.Struct):
    model: str
    metadata: dict[str, str]


_read_listed = msgspec.json.Decoder(_Listed).decode


async def list_completions(request: Request, services: Services) -> Response:
    """The caller's stored completions in pages, the oldest first; with `model` and `metadata[KEY]` those that have
    these. Raises BadRequest."""
    asked = {name: values[-1] for name, values in parse_qs(request.query, keep_blank_values=True).items()}
    model = asked.get("model")
    wanted = {name[9:-1]: value for name, value in asked.items() if name.startswith("metadata[") and name[-1] == "]"}
    found = services.responses.completions(request.owner)

    def matches(body: bytes) -> bool:
        one = _read_listed(body)
        return model in (None, one.model) and wanted.items() <= one.metadata.items()

    def choose() -> bytes:
        chosen = {name: body for name, body in found.items() if matches(body)} if model or wanted else found
        return _encode(page(chosen, request.query, order="asc"))

    return Response(body=await run_in_thread_if_large(sum(map(len, found.values())), choose))


async def retrieve(request: Request, services: Services) -> Response:
    """A stored completion. Raises NotFound, the same for another key's as for one that never was."""
    return Response(body=_find(request, services).record.body)


async def update(request: Request, services: Services) -> Response:
    """Replace a stored completion's metadata. Raises NotFound."""
    body = await decode_body(_update, request.body, services.config.limits)
    node = _find(request, services)
    stored = msgspec.json.decode(node.record.body) | {"metadata": body.metadata or {}}
    await services.responses.rewrite(node, _encode(stored))
    return Response(body=node.record.body)


async def delete(request: Request, services: Services) -> Response:
    """Delete a stored completion. Raises NotFound."""
    await services.responses.delete(request.owner, request.param, "completion")
    await services.sessions.flush()
    return Response(body=_encode(CompletionDeleted(id=request.param)))


async def list_messages(request: Request, services: Services) -> Response:
    """The messages of a stored completion's request in pages, the first one first. Raises NotFound."""
    items = _find(request, services).record.items
    messages = {f"{request.param}-{number}": item for number, item in enumerate(items)}
    return Response(body=_encode(page(messages, request.query, order="asc")))


def read_metadata(body: ChatRequest) -> dict[str, str]:
    """The metadata of a completion that is to be stored. Raises BadRequest."""
    try:
        return msgspec.convert(body.metadata or {}, Metadata)
    except msgspec.ValidationError as error:
        raise invalid_value("metadata", f"Of a stored completion it is up to 16 texts: {error}.") from error


async def keep(
    completion: Completion, metadata: dict[str, str], body: ChatRequest, request: Request, services: Services
) -> None:
    """Store a completion. Returns when it would survive the process, if anything does."""
    stored = StoredCompletion(
        **msgspec.structs.asdict(completion),
        **{name: getattr(body, name) for name in _REPEATED},
        request_id=request.id,
        metadata=metadata,
        input_user=body.user,
    )
    record = Record(
        owner=request.owner,
        created=time.time(),
        body=_encode(stored),
        items=_messages(completion.id, body),
        inputs=len(body.messages),
        kind="completion",
    )
    await services.responses.put(Node(completion.id, record))


def _messages(number: str, body: ChatRequest) -> list[bytes]:
    written = []
    for place, message in enumerate(body.messages):
        said = {name: value for name, value in msgspec.structs.asdict(message).items() if value is not None}
        content: dict[str, Any] = {"content": message.content, "content_parts": None}
        if isinstance(message.content, list):
            texts = [part.text if isinstance(part, TextPart) else part.refusal for part in message.content]
            content = {"content": "\n".join(texts), "content_parts": message.content}
        written.append(_encode({"id": f"{number}-{place}", **said, **content}))
    return written


def _find(request: Request, services: Services) -> Node:
    return services.responses.get(request.owner, request.param, "completion")
