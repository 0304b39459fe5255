"""Which of the waiting rows are computed next: as many as one batch takes, from all jobs in fair shares."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from ark.engines.embedding import Embedding, EmbeddingJob
from ark_backends.bge.encoder import Item
from ark_backends.bge.ticket import Ticket

MIN_SHARE = 64
"""Tokens that a job gains in its turn at least: with many jobs, less would be many turns for one row."""


@dataclass(eq=False)
class Work:
    """A job on the engine's thread."""

    job: EmbeddingJob
    ticket: Ticket
    rows: Sequence[Sequence[int]]
    waiting: deque[int] = field(init=False)
    """Indices of the rows that are not computed yet, the longest first."""
    results: list[Embedding | None] = field(init=False)
    missing: int = field(init=False)
    """Rows without a result."""
    credit: int = 0
    """Tokens that may be taken before it is another job's turn."""
    over: bool = False
    """Finished, failed or cancelled: what is still computed for it is thrown away."""

    def __post_init__(self) -> None:
        self.waiting = deque(sorted(range(len(self.rows)), key=lambda index: -len(self.rows[index])))
        self.results = [None] * len(self.rows)
        self.missing = len(self.rows)

    @property
    def begun(self) -> bool:
        return self.over or len(self.waiting) < len(self.rows)


@dataclass(frozen=True)
class Part:
    """One row of a batch and whose it is."""

    work: Work
    index: int

    @property
    def row(self) -> Sequence[int]:
        return self.work.rows[self.index]

    @property
    def item(self) -> Item:
        job = self.work.job
        return Item(self.row, job.dimensions, sparse=job.sparse, colbert=job.colbert)


class Turns:
    """The jobs that have rows to compute, in the order of their turns.

    Deficit round robin (Shreedhar and Varghese, 1995): in its turn a job gains an equal share of the batch as credit
    and takes rows while it lasts. A job of one short text is through in its first turn, and a job of thousands gets
    whatever the others leave.
    """

    def __init__(self) -> None:
        self._turns: deque[Work] = deque()
        self.tokens = 0
        """Of all waiting rows."""

    def __len__(self) -> int:
        return len(self._turns)

    def add(self, work: Work) -> None:
        self._turns.append(work)
        self.tokens += sum(map(len, work.rows))

    def remove(self, work: Work) -> None:
        """Forget a job's waiting rows; nothing if it has none."""
        if work.waiting:
            self._turns.remove(work)
            self.tokens -= sum(len(work.rows[index]) for index in work.waiting)
            work.waiting.clear()

    def take(self, budget: int) -> list[Part]:
        """The rows of the next batch, of at most `budget` tokens, sorted by length; one row at least."""
        batch: list[Part] = []
        left = budget
        share = max(MIN_SHARE, budget // max(1, len(self._turns)))
        while self._turns:
            work = self._turns[0]
            work.credit += share
            while work.waiting:
                length = len(work.rows[work.waiting[0]])
                if length > left and batch:
                    if batch[-1].work is work:
                        # It had its turn: at the front it would have every next batch too, until it is through.
                        self._turns.rotate(-1)
                    self.tokens -= sum(len(part.row) for part in batch)
                    return sorted(batch, key=_length)
                if length > work.credit and batch:
                    break
                work.credit -= length
                left -= length
                batch.append(Part(work, work.waiting.popleft()))
            self._turns.popleft()
            if work.waiting:
                self._turns.append(work)
            else:
                work.credit = 0
        self.tokens -= sum(len(part.row) for part in batch)
        return sorted(batch, key=_length)


def _length(part: Part) -> int:
    return len(part.row)
