"""Token sequences whose KV is cached, found again by their longest common prefix, within a budget of bytes.

A sequence is *busy* while a job runs on it: it can be copied from, but neither taken over nor evicted. When the job is
over it is *retained* until the memory is needed; the least recently used of the owner who has most goes first.

Prefixes are found by blocks: every full block of a sequence is indexed under a hash of its tokens and of all blocks
before it. A lookup walks the prompt's own blocks until the index knows no deeper one, so its cost grows with the prompt
and not with the number of sequences. What a hash suggests is compared token by token before it is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice

from ark_backends.torch_chat.kv import KVBuffer, KVSpec

BLOCK = 32
CANDIDATES = 32
"""Sequences compared token by token per lookup, most recent first: they share all full blocks already."""


class CachedSequence:
    """The tokens of one conversation whose KV is cached. `tokens` are those of `kv`, in order."""

    __slots__ = ("busy", "keys", "kv", "owner", "released", "session", "tokens")

    def __init__(self, owner: str, kv: KVBuffer) -> None:
        self.owner = owner
        self.session: str | None = None
        self.kv = kv
        self.tokens: list[int] = []
        self.keys: list[int] = []
        """The hash of each full block, chained."""
        self.busy = True
        self.released = False
        """Its session was released while a job ran on it: it is dropped when the job is over."""


class KVCache:
    """All cached sequences of an engine. Used on its thread only."""

    def __init__(self, spec: KVSpec, budget: int) -> None:
        self.spec = spec
        self.budget = budget
        self.used = 0
        """Bytes of all sequences, busy and retained."""
        self.freed = 0
        """Counts the sequences that stopped being busy or were dropped: while it stays, there is no more room."""
        self._idle_bytes: Counter[str] = Counter()
        """By owner."""
        self._idle: dict[CachedSequence, None] = {}
        """Least recently used first."""
        self._busy: dict[CachedSequence, None] = {}
        self._sessions: dict[str, dict[CachedSequence, None]] = {}
        # Insertion order in a bucket is age, so the most recent are read from its end.
        self._blocks: dict[int, dict[CachedSequence, None]] = {}

    @property
    def retained(self) -> int:
        """Number of retained sequences."""
        return len(self._idle)

    def find(self, owner: str, session: str | None, tokens: Sequence[int]) -> tuple[CachedSequence | None, int]:
        """The sequence that shares the longest prefix with `tokens`, and its length; on a tie the session's own."""
        best, length = None, 0
        for sequence in self._candidates(owner, session, tokens):
            common = common_prefix(sequence.tokens, tokens)
            if common > length:
                best, length = sequence, common
        return best, length

    def can_fit(self, tokens: int) -> bool:
        """Whether KV of this capacity fits the budget at all."""
        return self.spec.nbytes(tokens) <= self.budget

    def make_room(self, size: int, keep: CachedSequence | None = None) -> bool:
        """Evict retained sequences but `keep` until `size` bytes are free; none where that is not enough."""
        spared = keep.kv.nbytes if keep is not None and not keep.busy else 0
        if self.used - self._idle_bytes.total() + spared + size > self.budget:
            return False
        while self.used + size > self.budget:
            self.drop(self._next_victim(keep))
        return True

    def new(self, owner: str, session: str | None, kv: KVBuffer, tokens: Sequence[int] = ()) -> CachedSequence:
        """A busy sequence for a job; `kv` holds `tokens` already."""
        sequence = CachedSequence(owner, kv)
        self.used += kv.nbytes
        self._busy[sequence] = None
        # The root block holds every sequence, for prefixes shorter than one block.
        self._blocks.setdefault(_root(owner), {})[sequence] = None
        self._assign(sequence, session)
        self.extend(sequence, tokens)
        return sequence

    def extend(self, sequence: CachedSequence, tokens: Iterable[int]) -> None:
        """Note that the KV of `tokens` has been computed."""
        sequence.tokens.extend(tokens)
        sequence.kv.length = len(sequence.tokens)
        self._index(sequence)

    def take(self, sequence: CachedSequence, session: str | None, length: int) -> None:
        """Make a retained sequence busy for a job that shares its first `length` tokens; the rest is rolled back."""
        self._idle_bytes[sequence.owner] -= sequence.kv.nbytes
        del self._idle[sequence]
        self._busy[sequence] = None
        sequence.busy = True
        self._assign(sequence, session)
        blocks = length // BLOCK
        self._unindex(sequence, sequence.keys[blocks:])
        del sequence.keys[blocks:]
        del sequence.tokens[length:]
        sequence.kv.length = length
        for key in (_root(sequence.owner), *sequence.keys):
            # To the end of the bucket, as the most recent.
            bucket = self._blocks[key]
            del bucket[sequence]
            bucket[sequence] = None

    def retain(self, sequence: CachedSequence) -> None:
        """Keep a busy sequence whose job is over as cache, the most recently used."""
        self.freed += 1
        del self._busy[sequence]
        if sequence.released or not sequence.tokens:
            self._forget(sequence)
            return
        sequence.busy = False
        self._trim(sequence)
        self._idle[sequence] = None
        self._idle_bytes[sequence.owner] += sequence.kv.nbytes

    def has(self, session: str | None) -> bool:
        """Whether a session has any sequence, busy or retained."""
        return session in self._sessions

    def orphan(self, sequence: CachedSequence) -> None:
        """Take a busy sequence off its session, so that any later job of its owner may take it over."""
        self._assign(sequence, None)

    def drop(self, sequence: CachedSequence) -> None:
        """Forget a sequence and free its KV."""
        self.freed += 1
        if sequence.busy:
            del self._busy[sequence]
        else:
            del self._idle[sequence]
            self._idle_bytes[sequence.owner] -= sequence.kv.nbytes
        self._forget(sequence)

    def resize(self, sequence: CachedSequence, capacity: int) -> None:
        """Give a busy sequence another capacity; the room has been made."""
        before = sequence.kv.nbytes
        sequence.kv.resize(capacity)
        self.used += sequence.kv.nbytes - before

    def release(self, session: str) -> None:
        """Drop the retained sequences of a session now, and the busy ones when their jobs are over."""
        for sequence in list(self._sessions.get(session, ())):
            if sequence.busy:
                sequence.released = True
            else:
                self.drop(sequence)

    def clear(self) -> None:
        for sequence in [*self._idle, *self._busy]:
            self.drop(sequence)

    def _next_victim(self, keep: CachedSequence | None) -> CachedSequence:
        """The least recently used sequence, of the owner who has retained most: one with many long prompts is not to
        evict what the others need again."""
        owner = max(self._idle_bytes, key=self._idle_bytes.__getitem__)
        his = (sequence for sequence in self._idle if sequence.owner == owner and sequence is not keep)
        return next(his, None) or next(sequence for sequence in self._idle if sequence is not keep)

    def _candidates(self, owner: str, session: str | None, tokens: Sequence[int]) -> Iterable[CachedSequence]:
        if session is not None:
            own = reversed(self._sessions.get(session, {}))
            yield from islice((sequence for sequence in own if sequence.owner == owner), CANDIDATES)
        bucket = self._blocks.get(_root(owner), {})
        key = _root(owner)
        for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
            key = hash((key, *tokens[start : start + BLOCK]))
            deeper = self._blocks.get(key)
            if deeper is None:
                break
            bucket = deeper
        yield from islice(reversed(bucket), CANDIDATES)

    def _index(self, sequence: CachedSequence) -> None:
        key = sequence.keys[-1] if sequence.keys else _root(sequence.owner)
        for start in range(len(sequence.keys) * BLOCK, len(sequence.tokens) - BLOCK + 1, BLOCK):
            key = hash((key, *sequence.tokens[start : start + BLOCK]))
            sequence.keys.append(key)
            self._blocks.setdefault(key, {})[sequence] = None

    def _trim(self, sequence: CachedSequence) -> None:
        """Free capacity that a job asked for and did not use, where it is much."""
        slack = sequence.kv.capacity - sequence.kv.length
        if slack <= max(128, sequence.kv.length // 2):
            return
        capacity = sequence.kv.length + 64
        if self.used + sequence.kv.resizing(capacity) <= self.budget:
            self.resize(sequence, capacity)

    def _forget(self, sequence: CachedSequence) -> None:
        self.used -= sequence.kv.nbytes
        self._assign(sequence, None)
        self._unindex(sequence, [_root(sequence.owner), *sequence.keys])

    def _unindex(self, sequence: CachedSequence, keys: Iterable[int]) -> None:
        for key in keys:
            bucket = self._blocks.get(key, {})
            bucket.pop(sequence, None)
            if not bucket:
                self._blocks.pop(key, None)

    def _assign(self, sequence: CachedSequence, session: str | None) -> None:
        if sequence.session is not None:
            sequences = self._sessions[sequence.session]
            del sequences[sequence]
            if not sequences:
                del self._sessions[sequence.session]
        sequence.session = session
        if session is not None:
            self._sessions.setdefault(session, {})[sequence] = None


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of the longest common prefix; compares blocks at once, so that long ones cost little Python."""
    limit = min(len(a), len(b))
    start = 0
    while start < limit and a[start : start + 256] == b[start : start + 256]:
        start += 256
    end = min(start + 256, limit)
    while start < end and a[start] == b[start]:
        start += 1
    return min(start, limit)


def _root(owner: str) -> int:
    return hash(("root", owner))
