"""Conversations of /conversations: lists of items that a client names, and where their last turn ended."""

from __future__ import annotations

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from ark.config import ResponsesConfig
from ark.errors import BadRequest, NotFound, shorten
from ark.sessions.response_node import Node
from ark.sessions.responses import ResponseStore
from ark.sessions.service import SessionLocks, Sessions

log = logging.getLogger("ark.responses")

_CONVERSATION_BYTES = 1024
"""What a conversation takes in memory beside its items."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """A conversation as it is written to disk."""

    owner: str
    created: float
    used: float
    metadata: dict[str, str]
    items: dict[str, bytes]
    tip: str
    covered: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


@dataclass(eq=False)
class ItemConversation:
    """A conversation that a client named."""

    id: str
    owner: str
    created: float
    used: float
    metadata: dict[str, str]
    items: dict[str, bytes]
    """By id, the oldest first, each as JSON."""
    tip: Node | None = None
    """The response that its last turn left behind."""
    covered: int = 0
    """How many of the items that response has in its tokens; those behind them are new to it."""
    size: int = 0
    """Bytes that count against the limits."""

    def __post_init__(self) -> None:
        self.size = _CONVERSATION_BYTES + sum(map(len, self.items.values()))


class ConversationStore:
    """The conversations of all keys."""

    def __init__(
        self,
        config: ResponsesConfig,
        sessions: Sessions,
        responses: ResponseStore,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._sessions = sessions
        self._responses = responses
        self._clock = clock
        self._owners: dict[str, OrderedDict[str, ItemConversation]] = {}
        """By id, the least recently used first."""
        self.locks = SessionLocks()
        """One turn at a time for each."""

    def __len__(self) -> int:
        return sum(map(len, self._owners.values()))

    def restore(self, records: Mapping[str, bytes]) -> None:
        """Take over what another process has saved, after the responses have."""
        found: list[ItemConversation] = []
        for key, data in records.items():
            kind, _, number = key.partition(":")
            if kind != "conversation":
                continue
            try:
                record = _decode(data)
            except msgspec.DecodeError as error:
                log.error("the conversation %s cannot be read: %s", number, error)
                continue
            made = ItemConversation(number, record.owner, record.created, record.used, record.metadata, record.items)
            self._set_tip(made, self._responses.pin(record.owner, record.tip), record.covered)
            found.append(made)
        for made in sorted(found, key=lambda one: one.used):
            self._owners.setdefault(made.owner, OrderedDict())[made.id] = made
        for owner in list(self._owners):
            self._limit(owner)

    def get(self, owner: str, number: str) -> ItemConversation:
        """A conversation. Raises NotFound, the same for another key's as for one that never was."""
        self._expire(owner)
        mine = self._owners.get(owner)
        found = None if mine is None else mine.get(number)
        if mine is None or found is None:
            raise NotFound(f"There is no conversation '{shorten(number)}'.", code="conversation_not_found")
        found.used = self._clock()
        mine.move_to_end(number)
        return found

    async def create(self, owner: str, metadata: dict[str, str], items: dict[str, bytes]) -> ItemConversation:
        now = self._clock()
        made = ItemConversation(f"conv_{secrets.token_hex(24)}", owner, now, now, metadata, items)
        self._owners.setdefault(owner, OrderedDict())[made.id] = made
        self._limit(owner)
        await self.save(made)
        return made

    def check_room(self, conversation: ItemConversation, size: int = 0) -> None:
        """Raises BadRequest `conversation_too_large` where so many bytes more would be over `bytes_per_key`: the last
        conversation of a key is never dropped, so it must not grow for ever."""
        if conversation.size + size > self._config.bytes_per_key:
            raise BadRequest(
                f"The conversation has {conversation.size} bytes, and at most {self._config.bytes_per_key} are kept.",
                param="conversation",
                code="conversation_too_large",
            )

    async def save(self, conversation: ItemConversation) -> None:
        """Write a conversation that has changed, unless it was deleted meanwhile."""
        if conversation.id not in self._owners.get(conversation.owner, ()):
            return
        record = Record(
            owner=conversation.owner,
            created=conversation.created,
            used=conversation.used,
            metadata=conversation.metadata,
            items=conversation.items,
            tip="" if conversation.tip is None else conversation.tip.id,
            covered=conversation.covered,
        )
        await self._sessions.save_record(f"conversation:{conversation.id}", _encode(record))

    async def extend(self, conversation: ItemConversation, items: dict[str, bytes], tip: Node | None = None) -> None:
        """Add items; with `tip`, those of the turn that left it behind."""
        conversation.items.update(items)
        conversation.size += sum(map(len, items.values()))
        if tip is not None:
            self._responses.pin(tip.owner, tip.id)
            self._set_tip(conversation, tip, len(conversation.items))
        self._limit(conversation.owner)
        await self.save(conversation)

    async def remove_item(self, conversation: ItemConversation, number: str) -> None:
        """Raises NotFound."""
        if number not in conversation.items:
            raise NotFound(f"There is no item '{shorten(number)}' in this conversation.", code="item_not_found")
        place = list(conversation.items).index(number)
        conversation.size -= len(conversation.items.pop(number))
        if place < conversation.covered:
            # The tokens of the turn that read it no longer belong to the conversation.
            self._set_tip(conversation, None, 0)
        await self.save(conversation)

    def delete(self, owner: str, number: str) -> None:
        """Raises NotFound."""
        self._drop(self.get(owner, number))

    def sweep(self) -> None:
        """Expire what is too old."""
        for owner in list(self._owners):
            self._expire(owner)

    def _expire(self, owner: str) -> None:
        oldest = self._clock() - self._config.max_age
        while (mine := self._owners.get(owner)) and (first := next(iter(mine.values()))).used <= oldest:
            self._drop(first)

    def _limit(self, owner: str) -> None:
        """Drop the least recently used ones that are over the limits, never the last one."""
        self._expire(owner)
        mine = self._owners.get(owner, OrderedDict())
        size = sum(one.size for one in mine.values())
        while len(mine) > 1 and (len(mine) > self._config.max_conversations or size > self._config.bytes_per_key):
            first = next(iter(mine.values()))
            size -= first.size
            self._drop(first)

    def _drop(self, conversation: ItemConversation) -> None:
        mine = self._owners[conversation.owner]
        del mine[conversation.id]
        if not mine:
            del self._owners[conversation.owner]
        self._set_tip(conversation, None, 0)
        self._sessions.forget_records([f"conversation:{conversation.id}"])

    def _set_tip(self, conversation: ItemConversation, tip: Node | None, covered: int) -> None:
        if conversation.tip is not None:
            self._responses.unpin(conversation.tip)
        conversation.tip, conversation.covered = tip, 0 if tip is None else covered
