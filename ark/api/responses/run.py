"""One response, from a request that has been read to its last event."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager

import msgspec

from ark.api.chat.endpoint import TurnRunner
from ark.api.chat.parameters import read_hints
from ark.api.own_names import own_names
from ark.api.reasoning import seal_reasoning
from ark.api.request import Request, ignored_header
from ark.api.responses import schema
from ark.api.responses.read import Reading, ask, read
from ark.api.responses.render import Event, ResponseRenderer, encode
from ark.api.responses.schema import ConversationReference, InputFields, ResponseRequest
from ark.api.responses.state import ResponseTurn, behind
from ark.api.responses.translate import ENCRYPTED, LOGPROBS, NAMES
from ark.chat.turn import Turn, TurnRequest, prepare
from ark.errors import Conflict, ContextLengthExceeded
from ark.models.served import ServedChat
from ark.services import Services
from ark.sessions.response_node import Node, Record, item_id
from ark.sessions.service import SessionTurn
from ark.sessions.transcript import Continuation, Transcript


class ResponseRunner(TurnRunner):
    """Runs the turn of a response, and stores it."""

    def __init__(self, body: ResponseRequest, reading: Reading, **turn: object) -> None:
        super().__init__(stateful=None, **turn)  # type: ignore[arg-type]
        self.reading = reading
        self._session: ResponseTurn | None = None
        self._drop = 0
        """Turns to leave out."""
        self._instructed = bool(body.instructions)
        self._stored = body.store is not False and self.services.config.sessions.enabled
        summary = body.reasoning is not None and body.reasoning.summary is not None
        options = body.stream_options
        self.renderer = ResponseRenderer(
            _head(body, reading, self.asked, stored=self._stored),
            reading.tools.called,
            summary=summary,
            obfuscate=bool(options and options.include_obfuscation),
            logprobs=LOGPROBS in (body.include or ()),
            seal=self._seal if ENCRYPTED in (body.include or ()) else None,
        )
        self.work.response_id = self.renderer.body.id

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[Turn, None]:
        """The turn, once the engine has admitted it; with ``truncation: auto`` without the turns that are too many."""
        known = list(self.known_headers)
        while True:
            try:
                async with super().begin() as turn:
                    dropped = 0 if self._session is None else self._session.dropped_messages
                    if dropped:
                        self.known_headers.append(("x-ark-dropped-messages", str(dropped)))
                    yield turn
                    return
            except ContextLengthExceeded:
                droppable = 0 if self._session is None else self._session.droppable
                if self.turn is not None or self.renderer.body.truncation != "auto" or self._drop >= droppable:
                    raise
            # More each time: a conversation is read again for each of them.
            self._drop = min(2 * self._drop or 1, droppable)
            self.known_headers = list(known)

    async def session(self) -> SessionTurn:
        explicit = self.reading.parent or self.reading.conversation
        self._session = ResponseTurn(
            self.services.sessions,
            self.services.responses,
            number=self.renderer.body.id,
            session=await super().session() if explicit is None else None,
            parent=self.reading.parent,
            instructed=self._instructed,
            drop=self._drop,
            keep=self._keep if self._stored or self.reading.conversation or self.request.link else None,
        )
        return self._session

    async def events_of_response(self) -> AsyncGenerator[Event, None]:
        """The response is kept before the last event is given."""
        async with self._alone(), aclosing(self._events()) as events:
            async for event in events:
                yield event

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[None, None]:
        """The only turn of its conversation. Raises Conflict."""
        conversation, services = self.reading.conversation, self.services
        if conversation is None:
            yield
            return
        name = (self.asked.owner, conversation.id)
        async with services.conversations.locks.hold(name, services.config.sessions.busy_wait):
            if list(conversation.record.items) != self.reading.known or conversation.tip is not self.reading.parent:
                raise Conflict(f"The conversation {conversation.id} has changed meanwhile.", code="session_busy")
            yield

    async def _events(self) -> AsyncGenerator[Event, None]:
        renderer = self.renderer
        with own_names(self.reading.places, self.reading.tools.places, NAMES):
            async with self.begin() as turn:
                for event in renderer.start():
                    yield event
                async for delta in turn:
                    for event in renderer.delta(delta):
                        yield event
                for event in renderer.close(turn):
                    yield event
        for event in renderer.end():
            yield event

    def _seal(self) -> str:
        """The reasoning so far, exactly."""
        assert self.turn is not None
        return seal_reasoning(self.turn, self.services.seal, self.asked.owner)

    async def keep_unfinished(self) -> None:
        """Store the response as it is, so that it can be asked for, but not continued."""
        await self._keep(None, "")

    async def _keep(self, transcript: Transcript | None, key: str) -> None:
        body = self.renderer.body
        items = [encode(item) for item in (*self.reading.input.items, *body.output)]
        record = Record(
            owner=self.asked.owner,
            created=time.time(),
            body=encode(body),
            items=items,
            inputs=len(self.reading.input.items),
            readable=self._stored,
            instructed=self._instructed,
        )
        node = Node(body.id, record, key=key)
        if transcript is not None:
            node.attach(self.reading.parent, transcript)
        responses, link = self.services.responses, self.request.link
        await responses.put(node, pinned=link is not None)
        if link is not None:
            link.latest, before = node, link.latest
            if before is not None:
                responses.unpin(before)
        conversation = self.reading.conversation
        if conversation is not None and transcript is not None:
            await self.services.conversations.extend(conversation, {item_id(item): item for item in items}, node)


async def begin(body: ResponseRequest, request: Request, services: Services) -> ResponseRunner:
    """Read a request to its end and find its model. Raises APIError."""
    reading = await read(body, request, services)
    served = services.registry.find_for(ServedChat, reading.model, request.key)
    work = request.record.begin("chat", served.name, reading.chat, meters=services.metrics.requests.models, replies=1)
    backend = await served.ready()
    asked, ignored = ask(reading, request, services, served, backend)
    return ResponseRunner(
        body,
        reading,
        asked=asked,
        hints=read_hints(request, asked, served.name, cache_key=body.prompt_cache_key, metadata=body.metadata),
        request=request,
        services=services,
        served=served,
        backend=backend,
        work=work,
        known_headers=ignored_header(ignored),
    )


async def count_tokens(body: InputFields, request: Request, services: Services) -> int:
    """The tokens of a request's input. Raises APIError."""
    reading = await read(body, request, services)
    served = services.registry.find_for(ServedChat, reading.model, request.key)
    backend = await served.ready()
    asked, _ = ask(reading, request, services, served, backend)
    continuation = Continuation(asked.messages, how="stateless")
    if reading.parent is not None:
        continuation = behind(reading.parent, asked.messages, served.name, instructed=bool(body.instructions))
    with own_names(reading.places, reading.tools.places, NAMES):
        prompt, *_ = await prepare(asked, continuation, served.prompts)
    return len(prompt.ids)


def _head(body: ResponseRequest, reading: Reading, asked: TurnRequest, *, stored: bool) -> schema.ResponseBody:
    """What a response says from its beginning."""
    sampling = asked.sampling
    form = schema.TextFormat() if body.text is None or body.text.format is None else body.text.format
    if form.type == "json_schema":
        form = msgspec.structs.replace(form, description=form.description or None, strict=bool(form.strict))
    choice = body.tool_choice or "auto"
    reasoning = body.reasoning
    return schema.ResponseBody(
        id=f"resp_{secrets.token_hex(24)}",
        created_at=int(time.time()),
        status="queued" if body.background else "in_progress",
        model=reading.model,
        instructions=body.instructions,
        previous_response_id=body.previous_response_id,
        conversation=None if reading.conversation is None else ConversationReference(id=reading.conversation.id),
        tools=reading.tools.echo(),
        tool_choice=choice,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        text=schema.TextEcho(format=form, verbosity=(body.text and body.text.verbosity) or "medium"),
        reasoning=None
        if reasoning is None
        else schema.ReasoningEcho(effort=reasoning.effort, summary=reasoning.summary),
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        top_logprobs=body.top_logprobs or 0,
        max_output_tokens=body.max_output_tokens,
        max_tool_calls=body.max_tool_calls,
        truncation=body.truncation or "disabled",
        store=stored,
        background=bool(body.background),
        metadata=body.metadata or {},
        prompt_cache_key=body.prompt_cache_key,
        safety_identifier=body.safety_identifier,
        user=body.user,
    )
