"""POST /responses, and what can be asked of a stored response."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from urllib.parse import parse_qs

import msgspec

from ark.api.pages import page
from ark.api.reasoning import SealedReasoning
from ark.api.request import Request, decode_body
from ark.api.responses.background import BackgroundRun
from ark.api.responses.items import new_id
from ark.api.responses.render import encode, sse_event
from ark.api.responses.run import ResponseRunner, begin, count_tokens
from ark.api.responses.schema import (
    CompactedResponse,
    InputFields,
    InputItem,
    InputTokens,
    OutputMessage,
    ResponseDeleted,
    ResponseRequest,
)
from ark.errors import APIError, BadRequest, invalid_value
from ark.http.response import EventStream, Response
from ark.services import Services
from ark.sessions.response_node import item_id

_decoder = msgspec.json.Decoder(ResponseRequest)
_fields_decoder = msgspec.json.Decoder(InputFields)
_SUMMARIZE = (
    "Summarize our conversation so far for yourself: what was asked for, what was found and decided, the names, "
    "numbers and files that matter, and what is still to be done. Write the summary and nothing else."
)


async def create(request: Request, services: Services) -> Response | EventStream:
    """A response, whole or as a stream.

    What ARK cannot run, hosted tools, is left out and named in `x-ark-ignored`.
    """
    body = await decode_body(_decoder, request.body, services.config.limits)
    runner = await begin(body, request, services)
    if body.background:
        run = BackgroundRun(runner)
        await run.start()
        if not body.stream:
            return Response(body=encode(runner.renderer.body), headers=runner.headers())
        return _follow(run, -1)
    if not body.stream and request.link is None:
        async with aclosing(runner.events_of_response()) as events:
            async for _ in events:
                pass
        return Response(body=encode(runner.renderer.body), headers=runner.headers())
    return EventStream(events=_stream(runner), headers=runner.headers, error_event=partial(_error_events, runner))


async def count_input_tokens(request: Request, services: Services) -> Response:
    """The number of tokens that a response's input would have. Nothing is generated, and nothing is kept."""
    body = await decode_body(_fields_decoder, request.body, services.config.limits)
    return Response(body=encode(InputTokens(input_tokens=await count_tokens(body, request, services))))


async def compact(request: Request, services: Services) -> Response:
    """A conversation with the model's summary in the place of its replies, as items for later requests."""
    body = await decode_body(_fields_decoder, request.body, services.config.limits)
    if body.conversation is not None:
        raise invalid_value("conversation", "Its items are compacted as 'input'.")
    items = [InputItem(role="user", content=body.input)] if isinstance(body.input, str) else body.input or []
    fields = {field: getattr(body, field) for field in InputFields.__struct_fields__}
    fields |= {"input": [*items, InputItem(role="user", content=_SUMMARIZE)], "tool_choice": "none", "text": None}
    runner = await begin(ResponseRequest(**fields, store=False), request, services)
    async with aclosing(runner.events_of_response()) as events:
        async for _ in events:
            pass
    reply = runner.renderer.body
    text = "".join(part.text for item in reply.output if isinstance(item, OutputMessage) for part in item.content)
    sealed = SealedReasoning(text, b"", "")
    content = services.seal.close(msgspec.msgpack.encode(sealed), request.owner)
    summary = {"type": "compaction", "id": new_id("compaction"), "encrypted_content": content}
    said, node = runner.reading.input.items[-2::-1], runner.reading.parent
    while node is not None:
        record = node.record
        said += map(msgspec.json.decode, reversed(record.items[: record.inputs]))
        node = node.parent
    said = [item for item in reversed(said) if item.get("role") == "user"]
    compacted = CompactedResponse(id=reply.id, created_at=reply.created_at, output=[*said, summary], usage=reply.usage)
    return Response(body=encode(compacted), headers=runner.headers())


async def retrieve(request: Request, services: Services) -> Response | EventStream:
    """A stored response, or with `stream` the events of one in the background behind `starting_after`.

    Raises NotFound, the same for another key's as for one that never was."""
    node = services.responses.get(request.owner, request.param)
    run = _run_of(request, services)
    asked = parse_qs(request.query)
    if asked.get("stream", ["false"])[-1] == "true":
        if run is None:
            reason = "Only of a response in the background are the events kept, for some minutes."
            raise invalid_value("stream", reason)
        after = asked.get("starting_after", ["-1"])[-1]
        if not (after.isascii() and after.removeprefix("-").isdigit() and len(after) < 10):
            raise invalid_value("starting_after", "It is the number of an event.")
        return _follow(run, max(-1, int(after)))
    return Response(body=node.record.body if run is None or run.done else encode(run.runner.renderer.body))


async def cancel(request: Request, services: Services) -> Response:
    """Cancel a response in the background; one that has ended stays as it is. Raises NotFound."""
    node = services.responses.get(request.owner, request.param)
    run = _run_of(request, services)
    if run is not None:
        await run.cancel()
        node = services.responses.get(request.owner, request.param)
    if not msgspec.json.decode(node.record.body, type=_Background).background:
        raise BadRequest("Only a response in the background can be cancelled.", code="invalid_value")
    return Response(body=node.record.body)


async def delete(request: Request, services: Services) -> Response:
    """Delete a stored response, and what only it needs. Raises NotFound."""
    run = _run_of(request, services)
    if run is not None:
        await run.cancel()
    await services.responses.delete(request.owner, request.param)
    await services.sessions.flush()
    return Response(body=encode(ResponseDeleted(id=request.param)))


async def list_input_items(request: Request, services: Services) -> Response:
    """The items of a stored response's input, in pages. Raises NotFound."""
    record = services.responses.get(request.owner, request.param).record
    items = {item_id(item): item for item in record.items[: record.inputs]}
    return Response(body=encode(page(items, request.query)))


class _Background(msgspec.Struct):
    background: bool


def _run_of(request: Request, services: Services) -> BackgroundRun | None:
    return services.background.get((request.owner, request.param))


def _follow(run: BackgroundRun, after: int) -> EventStream:
    runner = run.runner

    async def events() -> AsyncGenerator[bytes, None]:
        async with aclosing(run.follow(after)) as followed:
            async for event in followed:
                yield sse_event(event)

    return EventStream(events=events(), headers=runner.headers, error_event=partial(_error_events, runner))


async def _stream(runner: ResponseRunner) -> AsyncGenerator[bytes, None]:
    async with aclosing(runner.events_of_response()) as events:
        async for event in events:
            yield sse_event(event)


def _error_events(runner: ResponseRunner, error: APIError) -> bytes:
    return b"".join(map(sse_event, runner.renderer.fail(error)))
