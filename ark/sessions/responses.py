"""Stored responses: a tree, each with the exact tokens that it adds to the response before it. Stored chat completions
are among them, with nothing before or behind them.

A response that is deleted or has expired can no longer be asked for. Its tokens stay as long as a later response needs
them. Whatever is stored is a record of the sessions' storage too, so it lives through a restart where sessions do.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from ark.config import ResponsesConfig
from ark.errors import NotFound, shorten
from ark.sessions.response_node import Kind, Node, Record, encode_record, item_id, read_record
from ark.sessions.service import Sessions

log = logging.getLogger("ark.responses")

Release = Callable[[Sequence[tuple[str, str]]], None]
"""Takes (model, key) of states that the backends may forget."""


@dataclass(eq=False)
class Owner:
    """What one key has stored."""

    nodes: dict[str, Node] = field(default_factory=dict)
    """By id, readable or not."""
    readable: dict[str, Node] = field(default_factory=dict)
    """The oldest first."""
    recent: OrderedDict[str, Node] = field(default_factory=OrderedDict)
    """The readable ones again, the least recently used first."""
    items: dict[str, bytes] = field(default_factory=dict)
    """All items by id."""
    size: int = 0


class ResponseStore:
    """The stored responses of all keys."""

    def __init__(
        self, config: ResponsesConfig, sessions: Sessions, release: Release, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._config = config
        self._sessions = sessions
        self._release = release
        self._clock = clock
        self._owners: dict[str, Owner] = {}
        self.evicted = dict.fromkeys(("age", "count", "bytes"), 0)
        """Responses that went by themselves, by cause."""

    def __len__(self) -> int:
        return sum(len(owner.recent) for owner in self._owners.values())

    @property
    def size(self) -> int:
        """Bytes of all that is stored."""
        return sum(owner.size for owner in self._owners.values())

    def restore(self, records: Mapping[str, bytes]) -> None:
        """Take over what another process has saved. A record that cannot be read is left out, with what needs it."""
        found: list[tuple[Record, str]] = []
        for key, data in records.items():
            kind, _, number = key.partition(":")
            if kind == "response":
                try:
                    found.append((read_record(data), number))
                except msgspec.DecodeError as error:
                    log.error("the stored response %s cannot be read: %s", number, error)
        for record, number in sorted(found, key=lambda one: one[0].created):
            parent = self._owners.get(record.owner, Owner()).nodes.get(record.parent)
            if record.parent and parent is None:
                log.error("the stored response %s has lost what was before it", number)
            else:
                self._insert(Node(number, record, parent))

    def collect(self) -> None:
        """Drop what nothing needs of what was restored, and hold the rest to the limits."""
        for name, owner in list(self._owners.items()):
            for node in [one for one in owner.nodes.values() if not (one.record.readable or one.children)]:
                self._forget(owner, node)
            self._limit(name)

    def pin(self, owner: str, number: str) -> Node | None:
        """Keep a response's tokens until `unpin`, whether it can be asked for or not; None where it is not there."""
        node = self._owners.get(owner, Owner()).nodes.get(number)
        if node is not None:
            node.children += 1
        return node

    def unpin(self, node: Node) -> None:
        node.children -= 1
        owner = self._owners.get(node.record.owner)
        if owner is not None and owner.nodes.get(node.id) is node:
            self._forget(owner, node)

    # Reading.

    def get(self, owner: str, number: str, kind: Kind = "response") -> Node:
        """A response. Raises NotFound, the same for another key's as for one that never was."""
        self._expire(owner)
        mine = self._owners.get(owner)
        node = None if mine is None else mine.readable.get(number)
        if mine is None or node is None or node.record.kind != kind:
            code = "response_not_found" if kind == "response" else "completion_not_found"
            raise NotFound(f"There is no {kind} '{shorten(number)}'.", code=code)
        mine.recent.move_to_end(number)
        return node

    def completions(self, owner: str) -> dict[str, bytes]:
        """The bodies of all stored completions by id, the oldest first."""
        self._expire(owner)
        readable = self._owners.get(owner, Owner()).readable
        return {name: node.record.body for name, node in readable.items() if node.record.kind == "completion"}

    def find_item(self, owner: str, number: str) -> bytes | None:
        """An item of a stored response, as JSON. For any thread."""
        mine = self._owners.get(owner)
        return None if mine is None else mine.items.get(number)

    # Writing.

    async def put(self, node: Node, *, pinned: bool = False) -> None:
        """Store a response. Returns when it would survive the process, if anything does."""
        name = node.record.owner
        owner = self._owners.get(name, Owner())
        if node.parent is not None and owner.nodes.get(node.parent.id) is not node.parent:
            # What was before it was deleted while it was made.
            node.attach(None, node.transcript())
        before = owner.nodes.get(node.id)
        if before is not None:
            # The same response, unfinished: nothing is behind it.
            self._hide(owner, before)
            [*self._collect(owner, before)]
        self._insert(node)
        node.children += pinned
        await self._save(node)
        self._limit(name)

    async def rewrite(self, node: Node, body: bytes) -> None:
        """Give a stored response another body."""
        self._owners[node.record.owner].size += len(body) - len(node.record.body)
        node.record.body = body
        await self._save(node)
        self._limit(node.record.owner)

    async def delete(self, owner: str, number: str, kind: Kind = "response") -> None:
        """Delete a response, and what only it needs. Raises NotFound."""
        node = self.get(owner, number, kind)
        self._drop(node)
        if node.children:
            await self._save(node)

    def sweep(self) -> None:
        """Expire what is too old."""
        for owner in list(self._owners):
            self._expire(owner)

    def take_key(self, node: Node) -> str:
        """The name of a response's state, which from now on is another one's; empty where it has none."""
        key, node.key = node.key, ""
        return key

    def return_key(self, node: Node | None, key: str) -> None:
        """Give the state of a turn that was not kept back to the response before it."""
        if node is not None and node.record.readable and not node.key:
            node.key = key
        elif node is not None:
            self._release([(node.record.model, key)])

    # Bookkeeping.

    def _expire(self, name: str) -> None:
        oldest = self._clock() - self._config.max_age
        while (owner := self._owners.get(name)) is not None and owner.readable:
            node = next(iter(owner.readable.values()))
            if node.record.created > oldest:
                return
            self._evict(node, "age")

    async def _save(self, node: Node) -> None:
        await self._sessions.save_record(f"response:{node.id}", encode_record(node.record))

    def _insert(self, node: Node) -> None:
        record = node.record
        owner = self._owners.setdefault(record.owner, Owner())
        owner.nodes[node.id] = node
        owner.size += record.size
        if node.parent is not None:
            node.parent.children += 1
        if record.readable:
            owner.readable[node.id] = owner.recent[node.id] = node
        if record.readable and record.kind == "response":
            owner.items.update((item_id(item), item) for item in record.items)

    def _limit(self, name: str) -> None:
        self._expire(name)
        owner, config = self._owners.get(name, Owner()), self._config
        while len(owner.recent) > config.max_responses:
            self._evict(next(iter(owner.recent.values())), "count")
        while owner.size > config.bytes_per_key and len(owner.recent) > 1:
            self._evict(next(iter(owner.recent.values())), "bytes")

    def _evict(self, node: Node, cause: str) -> None:
        self.evicted[cause] += 1
        self._drop(node)

    def _drop(self, node: Node) -> None:
        owner = self._owners[node.record.owner]
        self._hide(owner, node)
        self._forget(owner, node)

    def _hide(self, owner: Owner, node: Node) -> None:
        """Let nobody ask for a response any more."""
        record = node.record
        owner.size -= record.size
        for item in record.items:
            if owner.items.get(number := item_id(item)) is item:
                del owner.items[number]
        del owner.readable[node.id], owner.recent[node.id]
        record.readable, record.body, record.items = False, b"", []
        owner.size += record.size

    def _forget(self, owner: Owner, node: Node) -> None:
        gone = list(self._collect(owner, node))
        self._sessions.forget_records([f"response:{one.id}" for one in gone])
        self._release([(one.record.model, one.key) for one in gone if one.key])
        if not owner.nodes:
            self._owners.pop(node.record.owner, None)

    def _collect(self, owner: Owner, node: Node | None) -> Iterator[Node]:
        """Remove a node, and then those before it, that nobody can ask for and nothing is behind."""
        while node is not None and not node.record.readable and not node.children:
            del owner.nodes[node.id]
            owner.size -= node.record.size
            yield node
            node = node.parent
            if node is not None:
                node.children -= 1
