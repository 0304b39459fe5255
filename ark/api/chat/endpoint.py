"""POST /chat/completions."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from ark.api.capabilities import ignored_header
from ark.api.chat import parameters, render
from ark.api.chat.schema import ChatRequest
from ark.api.decode import decode
from ark.api.error_body import encode_error
from ark.api.request import Request
from ark.chat.prompt.messages import to_template
from ark.chat.turn import ChatTurn, TurnRequest
from ark.concurrency import run_in_thread_if_large
from ark.config import LimitsConfig
from ark.errors import APIError, BadRequest
from ark.http.response import EventStream, Response
from ark.http.sse import json_event
from ark.services import Services
from ark.sessions.session import COOKIE
from ark.sessions.transcript import Message, read_messages

log = logging.getLogger("ark.chat")

_decoder = msgspec.json.Decoder(ChatRequest)


async def create(request: Request, services: Services) -> Response | EventStream:
    """A completion, whole or as a stream."""
    limits = services.config.limits
    body, messages = await run_in_thread_if_large(len(request.body), lambda: _read(request.body, limits))
    served = services.registry.find_chat(body.model, request.key)
    meter = services.metrics.meter(served.name)
    work = request.record.begin("chat", served.name, body, meter=meter, replies=body.n or 1)
    backend = await served.ready(services.config.server.load_wait)
    ignore = services.config.server.unsupported_parameters == "ignore"
    ignored = parameters.check(body, served.capabilities or backend.capabilities, ignore=ignore)
    body = parameters.without(body, ignored)
    tokenizer = backend.tokenizer
    turn = ChatTurn(
        TurnRequest(
            request_id=request.id,
            owner=request.owner,
            cookie=request.cookie(COOKIE),
            stateful=body.ark_stateful,
            messages=messages,
            max_tokens=body.max_completion_tokens or body.max_tokens,
            sampling=parameters.sampling(body, served.default_sampling, tokenizer.vocab_size),
            stop_token_ids=parameters.stop_ids(body, tokenizer.stop_token_ids),
            stops=parameters.stop_strings(body),
            reasoning=backend.capabilities.reasoning,
            n=body.n or 1,
            answer=parameters.answer(body),
            tools=parameters.tools(body),
            tool_format=served.tool_format,
            # A simplified stream has text and nothing else.
            read_calls=not (body.stream and body.ark_simplified),
            template_kwargs=parameters.template_kwargs(body, tokenizer.chat_template or ""),
            top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
            size=len(request.body),
            seconds=limits.generation_seconds,
        ),
        sessions=services.sessions,
        backend=backend,
        prompts=served.prompts,
        work=work,
    )
    turn.headers += ignored_header(ignored)
    head = render.Head.new(body.model, services.fingerprint)
    work.response_id = head.id
    if body.stream:
        return _stream(turn, head, request, body)
    try:
        async with aclosing(turn.pieces()) as pieces:
            async for _ in pieces:
                pass
    finally:
        _note(turn, request, body)
    return Response(body=render.completion(head, turn), headers=turn.headers)


def _read(raw: bytes, limits: LimitsConfig) -> tuple[ChatRequest, tuple[Message, ...]]:
    body = decode(_decoder, raw, depth=limits.json_depth)
    if len(body.messages) > limits.messages:
        raise BadRequest(
            f"Invalid 'messages': there are {len(body.messages)}, and at most {limits.messages} are read.",
            param="messages",
            code="array_above_max_length",
        )
    return body, read_messages(to_template(body.messages))


def _stream(turn: ChatTurn, head: render.Head, request: Request, body: ChatRequest) -> EventStream:
    if body.ark_simplified:
        events, error_event = render.simplified(turn), _named_error
    else:
        include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        events, error_event = render.chunks(head, turn, include_usage=include_usage), _data_error
    return EventStream(events=_noted(events, turn, request, body), headers=turn.headers, error_event=error_event)


async def _noted(
    events: AsyncGenerator[bytes, None], turn: ChatTurn, request: Request, body: ChatRequest
) -> AsyncGenerator[bytes, None]:
    """The same events, and a line in the log behind the last."""
    try:
        async with aclosing(events):
            async for event in events:
                yield event
    finally:
        _note(turn, request, body)


def _note(turn: ChatTurn, request: Request, body: ChatRequest) -> None:
    work = turn.work
    work.session = turn.session_id
    if not turn.begun:
        return
    fold = turn.fold
    completion_tokens = sum(len(one.token_ids) for one in turn.folds)
    work.prompt_tokens, work.cached_tokens = fold.prompt_tokens, fold.cached_tokens
    work.completion_tokens = completion_tokens
    work.reasoning_tokens = sum(one.reasoning_tokens for one in turn.folds)
    work.finish_reasons = [one.finish_reason for one in turn.folds]
    request.spend(fold.prompt_tokens + completion_tokens)
    fields = {
        "request_id": request.id,
        "model": body.model,
        "session": turn.session_id,
        "how": turn.how,
        "prompt_tokens": fold.prompt_tokens,
        "cached_tokens": fold.cached_tokens,
        "completion_tokens": completion_tokens,
        "finish_reason": fold.finish_reason or "cancelled",
    }
    log.info("chat", extra={"fields": fields})


def _data_error(error: APIError) -> bytes:
    return json_event(encode_error(error))


def _named_error(error: APIError) -> bytes:
    """In a simplified stream data is text, so an error needs an event name of its own."""
    return b"event: error\n" + json_event(encode_error(error))
