"""What a request says: what it continues, its items, its tools, and the chat that it amounts to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from ark.api.chat import parameters
from ark.api.chat.schema import ChatRequest
from ark.api.own_names import own_name, own_names
from ark.api.reasoning import SealedReasoning, unseal_reasoning, with_exact_reasoning
from ark.api.request import Request
from ark.api.responses.items import Input, Item, read_input
from ark.api.responses.schema import ConversationReference, InputFields, InputItem, ResponseRequest
from ark.api.responses.tools import Tools
from ark.api.responses.translate import NAMES, chat_request
from ark.chat.turn import TurnRequest
from ark.concurrency import run_in_thread_if_large
from ark.engines.chat import ChatBackend
from ark.errors import BadRequest, NotFound, invalid_value, missing_parameter, shorten
from ark.models.served import ServedChat
from ark.services import Services
from ark.sessions.conversations import ItemConversation
from ark.sessions.response_node import Node


@dataclass
class Reading:
    """What a request says, before a model is asked for."""

    model: str
    parent: Node | None
    """The response that the turn begins behind."""
    conversation: ItemConversation | None
    known: list[str]
    """The ids of the conversation's items."""
    input: Input
    tools: Tools
    chat: ChatRequest
    places: list[str]
    """Where each of the chat's messages comes from."""


async def read(body: InputFields, request: Request, services: Services) -> Reading:
    """Raises BadRequest, and NotFound for an earlier response that is not there."""
    if isinstance(body, ResponseRequest) and body.background:
        if not services.config.sessions.enabled:
            raise BadRequest("Sessions are switched off.", param="background", code="sessions_disabled")
        if body.store is False:
            raise invalid_value("background", "A response in the background has to be stored.")
    parent, conversation = _find_parent(body, request, services)
    if body.input is None and parent is None and conversation is None:
        raise missing_parameter("input")
    earlier: list[bytes] = []
    if conversation is not None:
        earlier = [*conversation.record.items.values()][conversation.record.covered :]
        parameters.check_count(earlier, services.config.limits, "conversation.items")
    size = len(request.body) + sum(map(len, earlier))
    return await run_in_thread_if_large(
        size,
        lambda: _read(body, request.owner, services, parent=parent, conversation=conversation, earlier=earlier),
    )


def _read(
    body: InputFields,
    owner: str,
    services: Services,
    *,
    parent: Node | None,
    conversation: ItemConversation | None,
    earlier: Sequence[bytes],
) -> Reading:
    """`earlier` are the items of the conversation that no turn has read. Raises BadRequest."""
    found = ItemReader(owner, services).read(body.input or [])
    known: list[str] = []
    if conversation is not None:
        known = list(conversation.record.items)
        items = [msgspec.json.decode(item, type=InputItem) for item in earlier]
        check_new_items(conversation, [item["id"] for item in found.items])
        found = ItemReader(owner, services).read(items, "conversation.items").then(found)
    tools = Tools(refuse_hosted=services.config.responses.hosted_tools == "refuse")
    tools.read(body.tools or ())
    tools.read(found.tools, "input.tools")
    model = body.model or (None if parent is None or not parent.record.body else _model_of(parent))
    if model is None:
        raise missing_parameter("model")
    places = ["instructions", *found.places] if body.instructions else found.places
    if parent is None and not places:
        raise invalid_value("input", "There is nothing in it for the model to read.")
    with own_names(places, tools.places, NAMES):
        chat = chat_request(body, model, found, tools)
        parameters.check_arguments(chat.messages, services.config.limits)
    return Reading(
        model=model,
        parent=parent,
        conversation=conversation,
        known=known,
        input=found,
        tools=tools,
        chat=chat,
        places=places,
    )


class ItemReader:
    """Reads the items of one key, which may refer to stored ones and have sealed parts."""

    def __init__(self, owner: str, services: Services) -> None:
        self._owner = owner
        self._services = services
        self._room = services.config.limits.body_bytes
        """Bytes of stored items that may still be referred to: each of them is as if it had been sent."""

    def read(self, value: str | Sequence[InputItem], place: str = "input") -> Input:
        """Raises BadRequest."""
        if not isinstance(value, str):
            parameters.check_count(value, self._services.config.limits, place)
        return read_input(value, self._find, self._unseal, place)

    def _find(self, number: str) -> Item | None:
        data = self._services.responses.find_item(self._owner, number)
        if data is None:
            return None
        self._room -= len(data)
        if self._room < 0:
            most = self._services.config.limits.body_bytes
            reason = f"The items that are referred to have more than {most} bytes together."
            raise BadRequest(reason, param="input", code="invalid_value")
        item: Item = msgspec.json.decode(data)
        return item

    def _unseal(self, text: str) -> SealedReasoning:
        return unseal_reasoning(text, self._services.seal, self._owner)


def ask(
    reading: Reading, request: Request, services: Services, served: ServedChat, backend: ChatBackend
) -> tuple[TurnRequest, list[str]]:
    """The turn that a request asks for, and what of it is ignored. Raises BadRequest."""
    with own_names(reading.places, reading.tools.places, NAMES):
        dropped = served.check(reading.chat)
        chat = parameters.without(reading.chat, dropped)
        messages = parameters.read_messages(chat.messages)
        instructed = len(messages) - len(reading.input.messages)
        sealed = {index + instructed: one for index, one in reading.input.sealed.items()}
        messages = with_exact_reasoning(messages, sealed, served.prompts.fingerprint)
        asked = parameters.read(chat, messages, request, served, backend, limits=services.config.limits)
    names = [*reading.tools.ignored, *reading.input.ignored, *(own_name(name, (), (), NAMES) for name in dropped)]
    return asked, [*dict.fromkeys(names)]


def _find_parent(
    body: InputFields, request: Request, services: Services
) -> tuple[Node | None, ItemConversation | None]:
    """What a request continues. Raises BadRequest and NotFound."""
    owner, before, reference = request.owner, body.previous_response_id, body.conversation
    if before is None and reference is None:
        return None, None
    if before is not None and reference is not None:
        reason = "A request continues a response or a conversation, not both."
        raise BadRequest(reason, param="conversation", code="invalid_value")
    param = "conversation" if before is None else "previous_response_id"
    if not (services.config.sessions.enabled and services.config.sessions.explicit):
        raise BadRequest("Sessions are switched off.", param=param, code="sessions_disabled")
    if before is None:
        number = reference.id if isinstance(reference, ConversationReference) else reference
        conversation = services.conversations.get(owner, number or "")
        services.conversations.check_room(conversation)
        return conversation.tip, conversation
    if request.link is not None and (latest := request.link.latest) is not None and latest.id == before:
        return latest, None
    try:
        node = services.responses.get(owner, before)
    except NotFound as error:
        raise NotFound(error.message, param=param, code="previous_response_not_found") from error
    if not node.record.fingerprint:
        raise NotFound(
            f"The response '{shorten(before)}' has nothing to continue.",
            param=param,
            code="previous_response_not_found",
        )
    return node, None


def check_new_items(conversation: ItemConversation, names: Iterable[str], place: str = "input") -> None:
    """Raises BadRequest for the ids of items that a conversation has already."""
    for name in names:
        if name in conversation.record.items:
            reason = f"The conversation has an item '{shorten(name)}' already."
            raise invalid_value(place, reason, code="duplicate_item")


class _Named(msgspec.Struct):
    model: str


def _model_of(node: Node) -> str:
    return msgspec.json.decode(node.record.body, type=_Named).model
