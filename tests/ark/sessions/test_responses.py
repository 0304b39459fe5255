"""Stored responses: their limits, and what is freed when."""

from __future__ import annotations

from typing import Any

import pytest

from ark.config import ResponsesConfig, SessionsConfig
from ark.errors import NotFound
from ark.sessions.response_node import Node, Record
from ark.sessions.responses import ResponseStore
from ark.sessions.service import Sessions
from ark.sessions.transcript import Transcript, pack_tokens

pytestmark = pytest.mark.anyio


class Stored:
    """A store, its time, and the states that it released."""

    def __init__(self, **config: Any) -> None:
        self.now = 1000.0
        self.released: list[str] = []
        sessions = Sessions(SessionsConfig())
        self.store = ResponseStore(
            ResponsesConfig(**config),
            sessions,
            lambda states: self.released.extend(key for _, key in states),
            clock=lambda: self.now,
        )

    async def put(self, name: str, parent: Node | None = None, *, owner: str = "ann", tokens: int = 10) -> Node:
        before = [] if parent is None else list(range(parent.transcript().length))
        whole = Transcript("m", "f", (), pack_tokens([*before, *range(1000, 1000 + tokens)]), ())
        items = [b'{"id":"item-%s"}' % name.encode()]
        record = Record(owner=owner, created=self.now, body=b"{}", items=items, inputs=1)
        node = Node(name, record, key=f"key-{name}")
        node.attach(parent, whole)
        await self.store.put(node)
        return node

    def has(self, name: str, owner: str = "ann") -> bool:
        try:
            self.store.get(owner, name)
        except NotFound:
            return False
        return True


async def test_they_expire() -> None:
    stored = Stored(max_age=100)
    await stored.put("a")
    stored.now += 60
    await stored.put("b")
    stored.now += 50
    assert [stored.has(name) for name in "ab"] == [False, True]
    assert stored.store.evicted["age"] == 1
    assert stored.released == ["key-a"]
    assert stored.store.find_item("ann", "item-a") is None


async def test_the_least_recently_used_goes_when_there_are_too_many_of_a_key() -> None:
    stored = Stored(max_responses=2)
    await stored.put("other", owner="bob")
    for name in "ab":
        await stored.put(name)
    assert stored.has("a")
    await stored.put("c")
    assert [stored.has(name) for name in "abc"] == [True, False, True]
    assert stored.has("other", "bob")
    assert not stored.has("other", "ann")


async def test_bytes_of_a_key_are_bounded() -> None:
    stored = Stored(bytes_per_key=10_000)
    for number in range(20):
        await stored.put(f"n{number}", tokens=200)
        assert stored.store.size <= 10_000
    assert stored.has("n19")
    assert not stored.has("n0")
    assert stored.store.evicted["bytes"] > 0


async def test_what_is_before_a_response_stays_until_that_one_goes() -> None:
    stored = Stored()
    first = await stored.put("a")
    left, right = await stored.put("b", first), await stored.put("c", first)
    await stored.store.delete("ann", "a")
    assert not stored.has("a")
    assert left.transcript().length == right.transcript().length == 20
    assert stored.released == []
    await stored.store.delete("ann", "b")
    assert stored.released == ["key-b"]
    await stored.store.delete("ann", "c")
    assert sorted(stored.released) == ["key-a", "key-b", "key-c"]
    assert (stored.store.size, len(stored.store)) == (0, 0)


async def test_a_response_whose_parent_went_while_it_was_made_is_whole() -> None:
    stored = Stored()
    first = await stored.put("a")
    await stored.store.delete("ann", "a")
    second = await stored.put("b", first)
    assert second.parent is None
    assert second.transcript().length == 20


async def test_a_pinned_one_keeps_its_tokens() -> None:
    stored = Stored()
    node = await stored.put("a")
    assert stored.store.pin("ann", "a") is node
    await stored.store.delete("ann", "a")
    assert not stored.has("a")
    assert stored.store.size > 0
    stored.store.unpin(node)
    assert stored.store.size == 0
    assert stored.store.pin("ann", "a") is None
