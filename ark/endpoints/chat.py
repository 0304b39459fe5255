"""POST /chat/completions."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Sequence

import anyio.to_thread
import msgspec

from ark.asgi import Reply, Request, Stream, json_event
from ark.backends import GenerationJob, Tokenizer
from ark.chat import parameters, render
from ark.chat.fold import Fold, Piece
from ark.chat.messages import TemplateMessage, to_template
from ark.chat.reasoning import OPEN, ReasoningSplitter
from ark.errors import APIError, ContextLengthExceeded
from ark.schemas.chat import ChatRequest
from ark.schemas.decode import decode
from ark.schemas.errors import encode_error
from ark.services import Services

log = logging.getLogger("ark.chat")

_decoder = msgspec.json.Decoder(ChatRequest)

INLINE_CHARACTERS = 8192
"""Up to this much text is tokenised on the event loop, where it takes less time than the way to a thread and back
is worth; longer text would hold up other requests."""


async def create(request: Request, services: Services) -> Reply | Stream:
    """A completion, whole or as a stream."""
    body = decode(_decoder, request.body)
    served = services.registry.find_for("chat", body.model, request.key)
    messages = to_template(body.messages)
    backend = await served.ready(services.config.server.load_wait)
    capabilities = served.capabilities or backend.capabilities
    ignore = services.config.server.unsupported_parameters == "ignore"
    ignored = parameters.check(body, capabilities, ignore=ignore)

    prompt, text_end = await _prompt(backend.tokenizer, messages)
    room = backend.context_length - len(prompt)
    if room < 1:
        raise ContextLengthExceeded(
            f"The messages are {len(prompt)} tokens; the model's context is {backend.context_length}, "
            "and the reply needs at least one.",
            param="messages",
        )
    stop_ids = frozenset(body.stop_token_ids or ()) if "stop_token_ids" not in ignored else frozenset[int]()
    if not body.ignore_eos or "ignore_eos" in ignored:
        stop_ids |= backend.tokenizer.stop_token_ids
    job = GenerationJob(
        request_id=request.id,
        prompt=prompt,
        max_tokens=min(room, body.max_completion_tokens or body.max_tokens or room),
        sampling=parameters.sampling(body, ignored, served.default_sampling(backend)),
        stop_token_ids=stop_ids,
        owner=request.owner,
    )
    splitter = ReasoningSplitter(opened=text_end.endswith(OPEN)) if capabilities.reasoning else None
    fold = Fold(
        prompt_tokens=len(prompt),
        stream=backend.tokenizer.stream(),
        splitter=splitter,
        stops=parameters.stop_strings(body, ignored),
    )
    headers: list[tuple[str, str]] = [("x-ark-ignored", ", ".join(ignored))] if ignored else []
    pieces = _noted(fold.pieces(backend.generate(job)), fold, headers, request, body)
    head = render.Head.new(body.model, services.fingerprint)

    if not body.stream:
        async for _ in pieces:
            pass
        return Reply(body=render.completion(head, fold), headers=headers)
    if body.ark_simplified:
        return Stream(events=render.simplified(fold, pieces), headers=headers, error_event=_named_error)
    include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    events = render.chunks(head, fold, pieces, include_usage=include_usage)
    return Stream(events=events, headers=headers, error_event=_data_error)


async def _prompt(tokenizer: Tokenizer, messages: Sequence[TemplateMessage]) -> tuple[list[int], str]:
    """The prompt's ids, and the end of its text without white space."""

    def build() -> tuple[list[int], str]:
        text = tokenizer.render(messages)
        return tokenizer.encode(text), text[-64:].rstrip()

    if sum(len(message["content"]) for message in messages) <= INLINE_CHARACTERS:
        return build()
    return await anyio.to_thread.run_sync(build)


async def _noted(
    pieces: AsyncGenerator[Piece, None],
    fold: Fold,
    headers: list[tuple[str, str]],
    request: Request,
    body: ChatRequest,
) -> AsyncGenerator[Piece, None]:
    """The same pieces; adds the headers that are known with the first one, and logs the reply behind the last."""
    try:
        first = True
        async for piece in pieces:
            if first:
                first = False
                headers.append(("x-ark-cached-tokens", str(fold.cached_tokens)))
            yield piece
    finally:
        await pieces.aclose()
        log.info(
            "chat",
            extra={
                "fields": {
                    "request_id": request.id,
                    "model": body.model,
                    "prompt_tokens": fold.prompt_tokens,
                    "cached_tokens": fold.cached_tokens,
                    "completion_tokens": len(fold.token_ids),
                    "finish_reason": fold.finish_reason or "cancelled",
                }
            },
        )


def _data_error(error: APIError) -> bytes:
    return json_event(encode_error(error))


def _named_error(error: APIError) -> bytes:
    """In a simplified stream data is text, so an error needs an event name of its own."""
    return b"event: error\n" + json_event(encode_error(error))
