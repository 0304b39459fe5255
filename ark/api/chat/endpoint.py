"""POST /chat/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import msgspec

from ark.api.chat import parameters
from ark.api.chat.parameters import read_hints, read_history
from ark.api.chat.render import ChunkRenderer, Head, StreamRenderer, TextRenderer, completion, error_event
from ark.api.chat.schema import ChatRequest
from ark.api.chat.stored import keep, read_metadata
from ark.api.request import Request, decode, ignored_header
from ark.chat.turn import Turn, TurnRequest, begin_turn
from ark.concurrency import run_in_thread_if_large
from ark.config import LimitsConfig
from ark.engines.chat import ChatBackend
from ark.http.response import EventStream, Response
from ark.models.served import ServedChat
from ark.ops.requests import JobRecord
from ark.services import Services
from ark.sessions.service import Hints, SessionTurn
from ark.sessions.session import COOKIE
from ark.sessions.transcript import Message

_decoder = msgspec.json.Decoder(ChatRequest)


async def create(request: Request, services: Services) -> Response | EventStream:
    """A completion, whole or as a stream."""
    config = services.config
    body, messages = await run_in_thread_if_large(len(request.body), lambda: _read(request.body, config.limits))
    served = services.registry.find_for(ServedChat, body.model, request.key)
    work = request.record.begin("chat", served.name, body, meters=services.metrics.requests.models, replies=body.n or 1)
    backend = await served.ready()
    ignored = served.check(body)
    body = parameters.without(body, ignored)
    if body.store and not config.sessions.enabled:
        ignored = [*ignored, "store"]
    asked = parameters.read(body, messages, request, served, backend, limits=config.limits)
    head = Head(model=body.model)
    work.response_id = head.id
    runner = TurnRunner(
        asked=asked,
        hints=read_hints(request, asked, served.name, cache_key=body.prompt_cache_key, metadata=body.metadata),
        stateful=body.ark_stateful,
        request=request,
        services=services,
        served=served,
        backend=backend,
        work=work,
        known_headers=ignored_header(ignored),
    )
    if body.store and config.sessions.enabled:
        metadata = read_metadata(body)
        runner.store = lambda turn: keep(completion(head, turn), metadata, body, request, services)
    if not body.stream:
        turn = await runner.run()
        return Response(body=msgspec.json.encode(completion(head, turn)), headers=runner.headers())
    simplified = bool(body.ark_simplified)
    include_usage = body.stream_options is not None and bool(body.stream_options.include_usage)
    renderer = TextRenderer if simplified else partial(ChunkRenderer, head=head, include_usage=include_usage)
    return EventStream(
        events=runner.events(renderer),
        headers=runner.headers,
        error_event=partial(error_event, named=simplified),
    )


@dataclass(eq=False)
class TurnRunner:
    """Runs a turn for an endpoint: within its session, and with its record."""

    asked: TurnRequest
    hints: Hints
    stateful: bool | str | None
    request: Request
    services: Services
    served: ServedChat
    backend: ChatBackend
    work: JobRecord
    known_headers: list[tuple[str, str]]
    """Those of the response that are known before the turn."""
    turn: Turn | None = None
    store: Callable[[Turn], Awaitable[None]] | None = None
    """Called with the turn when it is complete, before its last event."""

    def headers(self) -> list[tuple[str, str]]:
        """What is known of the response's headers. A stream that starts while its job still waits in the queue has the
        session's cookie: a client that is told of no session would begin another one with its next request."""
        return self.known_headers if self.turn is None else self.known_headers + self.turn.headers

    async def run(self) -> Turn:
        """The complete turn, kept by its session."""
        async with self.begin() as turn:
            async for _ in turn:
                pass
        return turn

    async def events(self, new_renderer: Callable[[Turn], StreamRenderer]) -> AsyncGenerator[bytes, None]:
        """The turn as a renderer writes it. The session keeps the turn before the last event is given."""
        async with self.begin() as turn:
            renderer = new_renderer(turn)
            if event := renderer.start():
                yield event
            async for delta in turn:
                if event := renderer.delta(delta):
                    yield event
        yield renderer.end()

    async def session(self) -> SessionTurn:
        """The session that the request asks for."""
        cookie = self.request.cookie(COOKIE)
        begin = self.services.sessions.begin
        return await begin(self.asked.owner, cookie=cookie, stateful=self.stateful, hints=self.hints)

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[Turn, None]:
        """The turn, once the engine has admitted it."""
        asked = self.asked
        async with await self.session() as session:
            self.work.session = session.session_id
            if (cookie := session.set_cookie) is not None:
                self.known_headers.append(("set-cookie", cookie))
            turns = begin_turn(asked, session, backend=self.backend, prompts=self.served.prompts, observer=self.work)
            async with turns as turn:
                self.turn = turn
                try:
                    yield turn
                finally:
                    self._note(turn)
            if self.store is not None and turn.complete:
                await self.store(turn)

    def _note(self, turn: Turn) -> None:
        work = self.work
        work.prompt_tokens, work.cached_tokens = turn.prompt_tokens, turn.cached_tokens
        work.completion_tokens, work.reasoning_tokens = turn.completion_tokens, turn.reasoning_tokens
        work.finish_reasons = [output.finish_reason for output in turn.outputs]
        self.services.sessions.rebuilds += turn.how == "rebuilt"
        self.request.spend(work.prompt_tokens + work.completion_tokens)
        work.logged = {
            "session": work.session,
            "how": turn.how,
            "found": turn.session.found,
            "prompt_tokens": work.prompt_tokens,
            "cached_tokens": work.cached_tokens,
            "completion_tokens": work.completion_tokens,
            "finish_reason": work.finish_reasons[0] or "cancelled",
        }


def _read(raw: bytes, limits: LimitsConfig) -> tuple[ChatRequest, tuple[Message, ...]]:
    body = decode(_decoder, raw, limits)
    return body, read_history(body.messages, limits)
