"""POST /messages and /messages/count_tokens: Anthropic's API, on the same turns and sessions as chat completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass

import msgspec

from ark.api.chat import parameters
from ark.api.chat.endpoint import TurnRunner
from ark.api.chat.parameters import read_hints
from ark.api.chat.schema import ChatRequest
from ark.api.messages.read import NAMES, Reading, chat_request, read
from ark.api.messages.render import MessageRenderer, error_event
from ark.api.messages.schema import CountTokensRequest, InputTokenCount, MessagesRequest
from ark.api.own_names import own_name, own_names
from ark.api.reasoning import SealedReasoning, seal_reasoning, unseal_reasoning, with_exact_reasoning
from ark.api.request import Request, decode_body, ignored_header
from ark.chat.turn import Turn, TurnRequest, prepare
from ark.concurrency import run_in_thread_if_large
from ark.engines.chat import ChatBackend
from ark.http.response import EventStream, Response
from ark.models.served import ServedChat
from ark.services import Services
from ark.sessions.transcript import Continuation

_decoder = msgspec.json.Decoder(MessagesRequest)
_count_decoder = msgspec.json.Decoder(CountTokensRequest)


@dataclass(eq=False, kw_only=True)
class MessageRunner(TurnRunner):
    """Runs the turn of a message."""

    reading: Reading

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[Turn, None]:
        with _own_names(self.reading):
            async with super().begin() as turn:
                yield turn


async def create(request: Request, services: Services) -> Response | EventStream:
    """A message, whole or as a stream.

    Tools that Anthropic runs or describes are left out and named in `x-ark-ignored`.
    """
    body = await decode_body(_decoder, request.body, services.config.limits)
    reading = await _read(body, request, services)
    served = services.registry.find_for(ServedChat, body.model, request.key)
    chat = chat_request(body, reading)
    work = request.record.begin("chat", served.name, chat, meters=services.metrics.requests.models)
    backend = await served.ready()
    asked, ignored = _ask(chat, reading, request, services, served=served, backend=backend)
    runner = MessageRunner(
        reading=reading,
        asked=asked,
        hints=read_hints(request, asked, served.name, cache_key=None, metadata=body.metadata),
        stateful=None,
        request=request,
        services=services,
        served=served,
        backend=backend,
        work=work,
        known_headers=ignored_header(ignored),
    )

    def renderer(turn: Turn) -> MessageRenderer:
        return MessageRenderer(turn, model=body.model, seal=lambda: seal_reasoning(turn, services.seal, request.owner))

    if body.stream:
        return EventStream(events=runner.events(renderer), headers=runner.headers, error_event=error_event)
    async with runner.begin() as turn:
        rendered = renderer(turn)
        async for delta in turn:
            rendered.delta(delta)
    return Response(body=msgspec.json.encode(rendered.message()), headers=runner.headers())


async def count_tokens(request: Request, services: Services) -> Response:
    """The tokens of a message's prompt. Nothing is generated, and nothing is kept."""
    body = await decode_body(_count_decoder, request.body, services.config.limits)
    reading = await _read(body, request, services)
    served = services.registry.find_for(ServedChat, body.model, request.key)
    backend = await served.ready()
    asked, _ = _ask(chat_request(body, reading), reading, request, services, served=served, backend=backend)
    with _own_names(reading):
        prompt, *_ = await prepare(asked, Continuation(asked.messages, how="stateless"), served.prompts)
    return Response(body=msgspec.json.encode(InputTokenCount(input_tokens=len(prompt.ids))))


def _own_names(reading: Reading) -> AbstractContextManager[None]:
    return own_names(reading.places, reading.tool_places, NAMES)


async def _read(body: CountTokensRequest, request: Request, services: Services) -> Reading:
    parameters.check_count(body.messages, services.config.limits)

    def unseal(text: str) -> SealedReasoning:
        return unseal_reasoning(text, services.seal, request.owner)

    return await run_in_thread_if_large(len(request.body), lambda: read(body, unseal))


def _ask(
    chat: ChatRequest,
    reading: Reading,
    request: Request,
    services: Services,
    *,
    served: ServedChat,
    backend: ChatBackend,
) -> tuple[TurnRequest, list[str]]:
    """The turn that a request asks for, and what of it is ignored. Raises BadRequest."""
    with _own_names(reading):
        dropped = served.check(chat)
        chat = parameters.without(chat, dropped)
        messages = with_exact_reasoning(reading.history, reading.sealed, served.prompts.fingerprint)
        asked = parameters.read(chat, messages, request, served, backend, limits=services.config.limits)
    return asked, [*dict.fromkeys([*reading.ignored, *(own_name(name, (), (), NAMES) for name in dropped)])]
