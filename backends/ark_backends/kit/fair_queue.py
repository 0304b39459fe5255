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
