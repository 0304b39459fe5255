"""/conversations and their items."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ark.api.chat.schema import Metadata
from ark.api.pages import page
from ark.api.request import Request, decode_body
from ark.api.responses.read import ItemReader, check_new_items
from ark.api.responses.render import encode
from ark.api.responses.schema import InputItem
from ark.concurrency import run_in_thread_if_large
from ark.errors import BadRequest, NotFound, shorten
from ark.http.response import Response
from ark.services import Services
from ark.sessions.conversations import ItemConversation

NewItems = Annotated[list[InputItem], Meta(max_length=4096)]


class NewConversation(msgspec.Struct, frozen=True, kw_only=True):
    """The body of POST /conversations."""

    items: NewItems | None = None
    metadata: Metadata | None = None


class ConversationUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """The body of POST /conversations/{conversation}."""

    metadata: Metadata | None


class ItemsToAdd(msgspec.Struct, frozen=True, kw_only=True):
    """The body of POST /conversations/{conversation}/items."""

    items: Annotated[list[InputItem], Meta(min_length=1, max_length=4096)]


class ConversationObject(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    created_at: int
    metadata: dict[str, str]
    object: Literal["conversation"] = "conversation"


class ConversationDeleted(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    deleted: bool = True
    object: Literal["conversation.deleted"] = "conversation.deleted"


_new = msgspec.json.Decoder(NewConversation)
_update = msgspec.json.Decoder(ConversationUpdate)
_add = msgspec.json.Decoder(ItemsToAdd)


async def create(request: Request, services: Services) -> Response:
    """Begin a conversation, with items or without."""
    if not services.config.sessions.enabled:
        raise BadRequest("Sessions are switched off.", code="sessions_disabled")
    body = await decode_body(_new, request.body, services.config.limits) if request.body else NewConversation()
    items = await _read(body.items or [], request, services)
    made = await services.conversations.create(request.owner, body.metadata or {}, items)
    return _response(made)


async def retrieve(request: Request, services: Services) -> Response:
    """A conversation. Raises NotFound, the same for another key's as for one that never was."""
    return _response(services.conversations.get(request.owner, request.param))


async def update(request: Request, services: Services) -> Response:
    """Replace a conversation's metadata. Raises NotFound."""
    body = await decode_body(_update, request.body, services.config.limits)
    found = services.conversations.get(request.owner, request.param)
    found.record.metadata = body.metadata or {}
    await services.conversations.save(found)
    return _response(found)


async def delete(request: Request, services: Services) -> Response:
    """Delete a conversation. Its responses stay. Raises NotFound."""
    services.conversations.delete(request.owner, request.param)
    await services.sessions.flush()
    return Response(body=encode(ConversationDeleted(id=request.param)))


async def list_items(request: Request, services: Services) -> Response:
    """The items of a conversation, in pages. Raises NotFound."""
    found = services.conversations.get(request.owner, request.param)
    return Response(body=encode(page(found.record.items, request.query)))


async def add_items(request: Request, services: Services) -> Response:
    """Add items behind those of a conversation. Raises NotFound."""
    body = await decode_body(_add, request.body, services.config.limits)
    items = await _read(body.items, request, services)
    async with _alone(request, services) as found:
        check_new_items(found, items, "items")
        services.conversations.check_room(found, sum(map(len, items.values())))
        await services.conversations.extend(found, items)
    return Response(body=encode(page(items, f"limit={len(items)}", order="asc", most=len(items))))


async def retrieve_item(request: Request, services: Services) -> Response:
    """An item of a conversation. Raises NotFound."""
    found = services.conversations.get(request.owner, request.param)
    if request.item not in found.record.items:
        raise NotFound(f"There is no item '{shorten(request.item)}' in this conversation.", code="item_not_found")
    return Response(body=found.record.items[request.item])


async def delete_item(request: Request, services: Services) -> Response:
    """Delete an item of a conversation. Raises NotFound."""
    async with _alone(request, services) as found:
        await services.conversations.remove_item(found, request.item)
        return _response(found)


@asynccontextmanager
async def _alone(request: Request, services: Services) -> AsyncGenerator[ItemConversation, None]:
    """The conversation that a request names, while no turn of it runs. Raises Conflict."""
    found = services.conversations.get(request.owner, request.param)
    async with services.conversations.locks.hold((request.owner, found.id), services.config.sessions.busy_wait):
        # Not there any more, if it was deleted meanwhile.
        yield services.conversations.get(request.owner, request.param)


async def _read(items: list[InputItem], request: Request, services: Services) -> dict[str, bytes]:
    """New items as they are kept."""

    def read() -> dict[str, bytes]:
        found = ItemReader(request.owner, services).read(items, "items")
        return {item["id"]: encode(item) for item in found.items}

    return await run_in_thread_if_large(len(request.body), read)


def _response(found: ItemConversation) -> Response:
    made = ConversationObject(id=found.id, created_at=int(found.record.created), metadata=found.record.metadata)
    return Response(body=encode(made))
