"""One response, from a request that has been read to its last event."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import msgspec

from ark.api.chat import parameters
from ark.api.chat.endpoint import TurnRunner
from ark.api.chat.schema import ChatRequest
from ark.api.hints import read_hints
from ark.api.request import Request, ignored_header
from ark.api.responses import schema
from ark.api.responses.items import Input, SealedReasoning, read_input
from ark.api.responses.render import Event, ResponseRenderer, encode
from ark.api.responses.schema import InputFields, ResponseRequest
from ark.api.responses.state import ResponseTurn, behind
from ark.api.responses.tools import Tools
from ark.api.responses.translate import ENCRYPTED, LOGPROBS, chat_request, own_name, own_names
from ark.chat.output.reasoning import OPEN
from ark.chat.prompt.verbatim import IDS
from ark.chat.turn import TurnRequest, prepare
from ark.engines.chat import ChatBackend
from ark.errors import BadRequest, NotFound, UnsupportedParameter
from ark.models.served import ServedChat
from ark.services import Services
from ark.sessions.responses import Node, ResponseStore, new_node, new_response_id
from ark.sessions.service import Turn as SessionTurn
from ark.sessions.transcript import Continuation, Transcript, pack_tokens, read_message


@dataclass
class Reading:
    """What a request says, before a model is asked for."""

    model: str
    parent: Node | None
    input: Input
    tools: Tools
    chat: ChatRequest
    places: list[str]
    """Where each of the chat's messages comes from."""


def read(body: InputFields, owner: str, store: ResponseStore, services: Services) -> Reading:
    """Raises BadRequest, and NotFound for an earlier response that is not there."""
    limits = services.config.limits
    parent = None
    if body.conversation is not None or (isinstance(body, ResponseRequest) and body.background):
        name = "background" if body.conversation is None else "conversation"
        raise UnsupportedParameter(f"'{name}' is not available here.", param=name)
    if body.previous_response_id is not None:
        if not services.config.sessions.enabled:
            reason = "Sessions are switched off."
            raise BadRequest(reason, param="previous_response_id", code="sessions_disabled")
        parent = find_previous(body.previous_response_id, owner, store)
    if body.input is None and parent is None:
        raise BadRequest("Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    if isinstance(body.input, list) and len(body.input) > limits.messages:
        raise BadRequest(
            f"Invalid 'input': there are {len(body.input)} items, and at most {limits.messages} are read.",
            param="input",
            code="array_above_max_length",
        )
    seal = services.seal

    def unseal(text: str) -> SealedReasoning:
        return msgspec.msgpack.decode(seal.open(text, owner), type=SealedReasoning)

    found = read_input(body.input or [], lambda number: store.find_item(owner, number), unseal)
    tools = Tools()
    tools.read(body.tools or ())
    tools.read(found.tools, "input.tools")
    model = body.model or (None if parent is None else _model_of(parent))
    if model is None:
        raise BadRequest("Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
    places = ["instructions", *found.places] if body.instructions else found.places
    with own_names(places, tools.places):
        chat = chat_request(body, model, found, tools)
        parameters.check_arguments(chat.messages, depth=limits.json_depth, values=limits.json_values)
    return Reading(model=model, parent=parent, input=found, tools=tools, chat=chat, places=places)


def find_previous(number: str, owner: str, store: ResponseStore) -> Node:
    """The response that a request continues. Raises NotFound."""
    try:
        node = store.get(owner, number)
    except NotFound as error:
        param = "previous_response_id"
        raise NotFound(error.message, param=param, code="previous_response_not_found") from error
    return node


class ResponseRunner(TurnRunner):
    """Runs the turn of a response, and stores it."""

    def __init__(self, body: ResponseRequest, reading: Reading, store: ResponseStore, **turn: object) -> None:
        super().__init__(stateful=None, **turn)  # type: ignore[arg-type]
        self.reading = reading
        self._store = store
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

    async def session(self) -> SessionTurn:
        return ResponseTurn(
            self.services.sessions,
            self._store,
            number=self.renderer.body.id,
            session=await super().session() if self.reading.parent is None else None,
            parent=self.reading.parent,
            instructed=self._instructed,
            keep=self._keep if self._stored else None,
        )

    async def events_of_response(self) -> AsyncGenerator[Event, None]:
        """The response is kept before the last event is given."""
        renderer = self.renderer
        with own_names(self.reading.places, self.reading.tools.places):
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
        turn = self.turn
        assert turn is not None
        output, prompt = turn.outputs[0], turn.prompt
        ids = output.token_ids[: output.reasoning_end]
        tokenizer = prompt.builder.tokenizer
        gap = output.token_ids[output.reasoning_end :]
        ids += itertools.takewhile(lambda token: tokenizer.decode([token]).isspace(), gap)
        _, tag, after = prompt.ending.rpartition(OPEN)
        if tag and not after.strip():
            # The prompt opens the reasoning.
            ids = [*tokenizer.encode(tag + after), *ids]
        sealed = SealedReasoning(output.reasoning, pack_tokens(ids), prompt.builder.fingerprint)
        return self.services.seal.close(msgspec.msgpack.encode(sealed), self.asked.owner)

    async def _keep(self, transcript: Transcript, key: str) -> None:
        body = self.renderer.body
        items = [encode(item) for item in (*self.reading.input.items, *body.output)]
        node = new_node(
            transcript,
            self.reading.parent,
            id=body.id,
            owner=self.asked.owner,
            key=key,
            instructed=self._instructed,
            body=encode(body),
            items=items,
            inputs=len(self.reading.input.items),
            created=time.time(),
        )
        await self._store.put(node)


async def begin(body: ResponseRequest, request: Request, services: Services) -> ResponseRunner:
    """Read a request to its end and find its model. Raises APIError."""
    store = services.responses
    reading = read(body, request.owner, store, services)
    served = services.registry.find_for(ServedChat, reading.model, request.key)
    meter = services.metrics.requests.models[served.name]
    work = request.record.begin("chat", served.name, reading.chat, meter=meter, replies=1)
    backend = await served.ready(services.config.server.load_wait)
    asked, ignored = ask(reading, request, services, served, backend)
    return ResponseRunner(
        body,
        reading,
        store,
        asked=asked,
        hints=read_hints(request, asked, served.name, cache_key=body.prompt_cache_key, metadata=body.metadata),
        request=request,
        services=services,
        served=served,
        backend=backend,
        work=work,
        known_headers=ignored_header(ignored),
    )


def ask(
    reading: Reading, request: Request, services: Services, served: ServedChat, backend: ChatBackend
) -> tuple[TurnRequest, list[str]]:
    """The turn that a request asks for, and what of it is ignored. Raises BadRequest."""
    with own_names(reading.places, reading.tools.places):
        dropped = served.check(reading.chat, ignore=services.config.server.unsupported_parameters == "ignore")
        chat = parameters.without(reading.chat, dropped)
        messages = parameters.read_messages(chat.messages)
        instructed = len(messages) - len(reading.input.messages)
        for index, sealed in reading.input.sealed.items():
            if sealed.fingerprint == served.prompts.fingerprint:
                place = index + instructed
                exact = read_message({**messages[place].data, IDS: sealed.ids.hex()})
                messages = (*messages[:place], exact, *messages[place + 1 :])
        asked = parameters.read(chat, messages, request, served, backend, limits=services.config.limits)
    names = [*reading.tools.ignored, *reading.input.ignored, *(own_name(name, (), ()) for name in dropped)]
    return asked, [*dict.fromkeys(names)]


async def count_tokens(body: InputFields, request: Request, services: Services) -> int:
    """The tokens of a request's input. Raises APIError."""
    reading = read(body, request.owner, services.responses, services)
    served = services.registry.find_for(ServedChat, reading.model, request.key)
    backend = await served.ready(services.config.server.load_wait)
    asked, _ = ask(reading, request, services, served, backend)
    continuation = Continuation(asked.messages, how="stateless")
    if reading.parent is not None:
        continuation = behind(reading.parent, asked.messages, served.name, instructed=bool(body.instructions))
    with own_names(reading.places, reading.tools.places):
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
        id=new_response_id(),
        created_at=int(time.time()),
        status="in_progress",
        model=reading.model,
        instructions=body.instructions,
        previous_response_id=body.previous_response_id,
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
        metadata=body.metadata or {},
        prompt_cache_key=body.prompt_cache_key,
        safety_identifier=body.safety_identifier,
        user=body.user,
    )


class _Named(msgspec.Struct):
    model: str


def _model_of(node: Node) -> str:
    return msgspec.json.decode(node.body, type=_Named).model
