"""Which of the waiting items are next: as many as there is room for, in fair shares of whom they belong to."""

from __future__ import annotations

from collections import OrderedDict, deque
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

    def take(self, budget: int, *, larger: bool = True) -> list[tuple[K, T]]:
        """Items of this cost at most; where none is that small, one that costs more, unless `larger` forbids it."""
        taken: list[tuple[K, T]] = []
        left = budget
        share = max(self._min_share, budget // max(1, len(self._flows)))
        while self._flows:
            key, flow = next(iter(self._flows.items()))
            flow.credit += share
            while flow.items:
                item, cost = flow.items[0]
                if cost > left and (taken or not larger):
                    if taken and taken[-1][0] is key:
                        # It had its turn: at the front it would have every next batch too, until it is through.
                        self._flows.move_to_end(key)
                    return taken
                if cost > flow.credit and (taken or not larger):
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


@dataclass
class _Owner(Generic[K, T]):
    queue: FairQueue[K, T]
    credit: int = 0


class OwnersQueue(Generic[K, T]):
    """Waiting items of keys that belong to owners, such as the jobs of users: owners share the budget, and the keys of
    each share what it gets. So an owner gains nothing by many keys. Used on one thread."""

    def __init__(self, min_share: int = 1) -> None:
        """`min_share` is the credit that an owner, and each of its keys, gains in its turn at least."""
        self._min_share = min_share
        self._owners: OrderedDict[str, _Owner[K, T]] = OrderedDict()
        self._owner_of: dict[K, str] = {}

    @property
    def cost(self) -> int:
        """Of all waiting items."""
        return sum(one.queue.cost for one in self._owners.values())

    def add(self, owner: str, key: K, items: Iterable[tuple[T, int]]) -> None:
        """Append items, each with its cost, to those of an owner's key."""
        one = self._owners.setdefault(owner, _Owner(FairQueue(self._min_share)))
        one.queue.add(key, items)
        self._owner_of[key] = owner
        if not one.queue:
            del self._owners[owner]

    def remove(self, key: K) -> None:
        """Forget what waits of a key; nothing if there is none."""
        owner = self._owner_of.pop(key, None)
        one = self._owners.get(owner) if owner is not None else None
        if owner is not None and one is not None:
            one.queue.remove(key)
            if not one.queue:
                del self._owners[owner]

    def take(self, budget: int) -> list[tuple[K, T]]:
        """Items of this cost at most; where none is that small, one that costs more."""
        taken: list[tuple[K, T]] = []
        left, passed = budget, 0
        share = max(self._min_share, budget // max(1, len(self._owners)))
        while left > 0 and passed < len(self._owners):
            owner, one = next(iter(self._owners.items()))
            one.credit = min(one.credit + share, 2 * budget)
            before = one.queue.cost
            found = one.queue.take(min(one.credit, left), larger=False)
            passed = 0 if found else passed + (one.credit >= left)
            spent = before - one.queue.cost
            one.credit -= spent
            left -= spent
            taken += found
            if one.queue:
                self._owners.move_to_end(owner)
            else:
                del self._owners[owner]
        return taken or self._take_larger()

    def _take_larger(self) -> list[tuple[K, T]]:
        for owner, one in self._owners.items():
            taken = one.queue.take(0)
            if one.queue:
                self._owners.move_to_end(owner)
            else:
                del self._owners[owner]
            return taken
        return []
