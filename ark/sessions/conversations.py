"""Conversations of /conversations: lists of items that a client names, and where their last turn ended."""

from __future__ import annotations

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from ark.config import ResponsesConfig
from ark.errors import BadRequest, NotFound, shorten
from ark.sessions.response_node import Node
from ark.sessions.responses import ResponseStore
from ark.sessions.service import SessionLocks, Sessions

log = logging.getLogger("ark.responses")

MAX_BYTES = 16 << 20
"""Of a conversation, however much its key may have."""
_CONVERSATION_BYTES = 1024
"""What a conversation takes in memory beside its items."""


class Record(msgspec.Struct, array_like=True, eq=False, kw_only=True):
    """What is written to disk."""

    owner: str
    created: float
    used: float
    metadata: dict[str, str]
    items: dict[str, bytes]
    """By id, the oldest first, each as JSON."""
    tip: str = ""
    """The id of the response that its last turn left behind."""
    covered: int = 0
    """How many of the items that response has in its tokens; those behind them are new to it."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


@dataclass(eq=False, slots=True)
class ItemConversation:
    """A conversation that a client named."""

    id: str
    record: Record
    tip: Node | None = None
    """Pinned, so that its tokens stay."""
    size: int = 0
    """Bytes that count against the limits."""

    def __post_init__(self) -> None:
        self.size = _CONVERSATION_BYTES + sum(map(len, self.record.items.values()))


@dataclass(eq=False, slots=True)
class Owner:
    """What one key has."""

    conversations: OrderedDict[str, ItemConversation] = field(default_factory=OrderedDict)
    """By id, the least recently used first."""
    size: int = 0


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
        self._owners: dict[str, Owner] = {}
        self.locks = SessionLocks()
        """One turn at a time for each."""

    def __len__(self) -> int:
        return sum(len(owner.conversations) for owner in self._owners.values())

    @property
    def size(self) -> int:
        """Bytes of all that is stored."""
        return sum(owner.size for owner in self._owners.values())

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
            made = ItemConversation(number, record)
            self._set_tip(made, self._responses.pin(record.owner, record.tip), record.covered)
            found.append(made)
        for made in sorted(found, key=lambda one: one.record.used):
            self._insert(made)
        for owner in list(self._owners):
            self._limit(owner)

    def get(self, owner: str, number: str) -> ItemConversation:
        """A conversation. Raises NotFound, the same for another key's as for one that never was."""
        self._expire(owner)
        mine = self._owners.get(owner, Owner()).conversations
        found = mine.get(number)
        if found is None:
            raise NotFound(f"There is no conversation '{shorten(number)}'.", code="conversation_not_found")
        found.record.used = self._clock()
        mine.move_to_end(number)
        return found

    async def create(self, owner: str, metadata: dict[str, str], items: dict[str, bytes]) -> ItemConversation:
        now = self._clock()
        record = Record(owner=owner, created=now, used=now, metadata=metadata, items=items)
        made = ItemConversation(f"conv_{secrets.token_hex(24)}", record)
        self._insert(made)
        self._limit(owner)
        await self.save(made)
        return made

    def check_room(self, conversation: ItemConversation, size: int = 0) -> None:
        """Raises BadRequest `conversation_too_large` where so many bytes more would be too many: the last conversation
        of a key is never dropped, so it must not grow for ever, and each change writes all of it."""
        most = min(self._config.bytes_per_key, MAX_BYTES)
        if conversation.size + size > most:
            raise BadRequest(
                f"The conversation has {conversation.size} bytes, and at most {most} are kept.",
                param="conversation",
                code="conversation_too_large",
            )

    async def save(self, conversation: ItemConversation) -> None:
        """Write a conversation that has changed, unless it was deleted meanwhile."""
        if self._has(conversation):
            await self._sessions.save_record(f"conversation:{conversation.id}", _encode(conversation.record))

    async def extend(self, conversation: ItemConversation, items: dict[str, bytes], tip: Node | None = None) -> None:
        """Add items, unless it was deleted meanwhile; with `tip`, those of the turn that left it behind."""
        if not self._has(conversation):
            return
        record = conversation.record
        record.items.update(items)
        self._grow(conversation, sum(map(len, items.values())))
        if tip is not None:
            self._responses.pin(record.owner, tip.id)
            self._set_tip(conversation, tip, len(record.items))
        self._limit(record.owner)
        await self.save(conversation)

    async def remove_item(self, conversation: ItemConversation, number: str) -> None:
        """Raises NotFound."""
        items = conversation.record.items
        if number not in items:
            raise NotFound(f"There is no item '{shorten(number)}' in this conversation.", code="item_not_found")
        place = list(items).index(number)
        self._grow(conversation, -len(items.pop(number)))
        if place < conversation.record.covered:
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

    def _expire(self, name: str) -> None:
        oldest = self._clock() - self._config.max_age
        while (owner := self._owners.get(name)) and (
            first := next(iter(owner.conversations.values()))
        ).record.used <= oldest:
            self._drop(first)

    def _limit(self, name: str) -> None:
        """Drop the least recently used ones that are over the limits, never the last one."""
        self._expire(name)
        owner, config = self._owners.get(name, Owner()), self._config
        mine = owner.conversations
        while len(mine) > 1 and (len(mine) > config.max_conversations or owner.size > config.bytes_per_key):
            self._drop(next(iter(mine.values())))

    def _insert(self, conversation: ItemConversation) -> None:
        owner = self._owners.setdefault(conversation.record.owner, Owner())
        owner.conversations[conversation.id] = conversation
        owner.size += conversation.size

    def _has(self, conversation: ItemConversation) -> bool:
        return conversation.id in self._owners.get(conversation.record.owner, Owner()).conversations

    def _grow(self, conversation: ItemConversation, size: int) -> None:
        conversation.size += size
        self._owners[conversation.record.owner].size += size

    def _drop(self, conversation: ItemConversation) -> None:
        name = conversation.record.owner
        owner = self._owners[name]
        del owner.conversations[conversation.id]
        owner.size -= conversation.size
        if not owner.conversations:
            del self._owners[name]
        self._set_tip(conversation, None, 0)
        self._sessions.forget_records([f"conversation:{conversation.id}"])

    def _set_tip(self, conversation: ItemConversation, tip: Node | None, covered: int) -> None:
        if conversation.tip is not None:
            self._responses.unpin(conversation.tip)
        record = conversation.record
        conversation.tip, record.tip, record.covered = tip, "" if tip is None else tip.id, 0 if tip is None else covered
