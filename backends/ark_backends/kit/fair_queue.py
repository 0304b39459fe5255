"""Which of the waiting items are next: as many as there is room for, in fair shares of whom they belong to."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


@dataclass
class _Flow(Generic[T]):
    """The waiting items of one key, each with its cost."""

    items: deque[tuple[T, int]]
    credit: int = 0
    """Cost that may be taken before it is another key's turn."""


class FairQueue(Generic[K, T]):
    """Waiting items of several keys, such as jobs or users. Used on one thread.

    Deficit round robin (Shreedhar and Varghese, 1995): in its turn a key gains an equal share of the budget as credit,
    and its items are taken while that lasts. A key with one small item is through in its first turn, and one with
    thousands gets whatever the others leave.
    """

    def __init__(self, min_share: int = 1) -> None:
        """`min_share` is the credit that a key gains in its turn at least: with many keys, less would be many turns for
        one item."""
        self.cost = 0
        """Of all waiting items."""
        self._min_share = min_share
        self._flows: OrderedDict[K, _Flow[T]] = OrderedDict()

    def __len__(self) -> int:
        """The number of keys with waiting items."""
        return len(self._flows)

    def add(self, key: K, items: Iterable[tuple[T, int]]) -> None:
        """Append items, each with its cost, to those of a key."""
        flow = _Flow(deque(items))
        if not flow.items:
            return
        self.cost += sum(cost for _, cost in flow.items)
        known = self._flows.setdefault(key, flow)
        if known is not flow:
            known.items += flow.items

    def remove(self, key: K) -> None:
        """Forget what waits of a key; nothing if there is none."""
        flow = self._flows.pop(key, None)
        if flow is not None:
            self.cost -= sum(cost for _, cost in flow.items)

    def take(self, budget: int) -> list[tuple[K, T]]:
        """Items of this cost at most, or one that costs more; at least one where any waits."""
        taken: list[tuple[K, T]] = []
        left = budget
        share = max(self._min_share, budget // max(1, len(self._flows)))
        while self._flows:
            key, flow = next(iter(self._flows.items()))
            flow.credit += share
            while flow.items:
                item, cost = flow.items[0]
                if cost > left and taken:
                    if taken[-1][0] is key:
                        # It had its turn: at the front it would have every next batch too, until it is through.
                        self._flows.move_to_end(key)
                    return taken
                if cost > flow.credit and taken:
                    break
                flow.items.popleft()
                flow.credit -= cost
                left -= cost
                self.cost -= cost
                taken.append((key, item))
            if flow.items:
                self._flows.move_to_end(key)
            else:
                del self._flows[key]
        return taken


class Turns(Generic[T]):
    """Places for work that takes long, given to owners in turns. One place is never the same owner's as all others, so
    another owner need not wait for the first. Used on one thread."""

    def __init__(self, count: int) -> None:
        """`count` is the number of places; a single one is anybody's."""
        self._count = count
        self._inside: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        """By owner; the one whose turn it is comes first."""

    def __len__(self) -> int:
        """Items that wait or have a place."""
        return self._inside.total() + sum(map(len, self._waiting.values()))

    def add(self, owner: str, item: T) -> None:
        self._waiting.setdefault(owner, deque()).append(item)

    def remove(self, owner: str, item: T) -> None:
        """Forget an item that waits."""
        self._waiting[owner].remove(item)
        if not self._waiting[owner]:
            del self._waiting[owner]

    def leave(self, owner: str) -> None:
        """Give one of an owner's places back."""
        self._inside[owner] -= 1
        self._inside += Counter()  # those without any are forgotten

    def next(self) -> T | None:
        """An item that has a place from now on; None where none can have one."""
        if self._inside.total() >= self._count:
            return None
        owner = next((owner for owner in self._waiting if self._inside[owner] < max(1, self._count - 1)), None)
        if owner is None:
            return None
        self._inside[owner] += 1
        waiting = self._waiting[owner]
        item = waiting.popleft()
        self._waiting.move_to_end(owner)
        if not waiting:
            del self._waiting[owner]
        return item
