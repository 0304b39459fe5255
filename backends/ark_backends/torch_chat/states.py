"""Token sequences whose KV is held, found again by their longest common prefix, within a budget of bytes.

A state is *busy* while a job runs on it: then it can be copied from, but neither taken over nor evicted. When the job
is over it is *retained*, until the memory is needed: least recently used first out.

Prefixes are found by blocks: every full block of a state is indexed under a hash of its tokens and of all blocks
before it. A lookup walks the prompt's own blocks until the index knows no deeper one; so it costs what the prompt is
long, however many states there are. What a hash suggests is compared token by token before it is used.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from itertools import islice

from ark_backends.torch_chat.kv import KVBuffer, KVSpec

BLOCK = 32
CANDIDATES = 32
"""States compared token by token per lookup, most recent first: they share all full blocks already."""


class State:
    """The tokens of one conversation whose KV is held. `tokens` are those of `kv`, in order."""

    __slots__ = ("busy", "keys", "kv", "owner", "released", "session", "tokens")

    def __init__(self, owner: str, session: str | None, kv: KVBuffer, tokens: Sequence[int] = ()) -> None:
        self.owner = owner
        self.session = session
        self.kv = kv
        self.tokens = list(tokens)
        self.keys: list[int] = []
        """The hash of each full block, chained."""
        self.busy = True
        self.released = False
        """Its session was released while a job ran on it: dropped when the job is over."""


class States:
    """All states of an engine. Used on its thread only."""

    def __init__(self, spec: KVSpec, budget: int) -> None:
        self.spec = spec
        self.budget = budget
        self.used = 0
        """Bytes of all states, busy and retained."""
        self.freed = 0
        """Counts states that stopped being busy or went: as long as it stays, there is no more room than before."""
        self._idle_bytes = 0
        self._idle: OrderedDict[State, None] = OrderedDict()
        self._busy: dict[State, None] = {}
        self._sessions: dict[str, dict[State, None]] = {}
        # Insertion order in a bucket is age, so the most recent are read from its end.
        self._blocks: dict[int, dict[State, None]] = {}

    @property
    def retained(self) -> int:
        """Number of retained states."""
        return len(self._idle)

    def find(self, owner: str, session: str | None, tokens: Sequence[int]) -> tuple[State | None, int]:
        """The state that shares the longest prefix with `tokens`, and its length; on a tie the session's own."""
        best, length = None, 0
        for state in self._candidates(owner, session, tokens):
            common = common_prefix(state.tokens, tokens)
            if common > length:
                best, length = state, common
        return best, length

    def can_fit(self, tokens: int) -> bool:
        """Whether KV of this capacity is within the budget at all."""
        return tokens * self.spec.token_bytes <= self.budget

    def make_room(self, size: int, keep: State | None = None) -> bool:
        """Evict retained states until `size` bytes are free, sparing `keep`. Evicts none when that cannot do."""
        spared = keep.kv.nbytes if keep is not None and not keep.busy else 0
        if self.used - self._idle_bytes + spared + size > self.budget:
            return False
        while self.used + size > self.budget:
            self.drop(next(state for state in self._idle if state is not keep))
        return True

    def new(self, owner: str, session: str | None, kv: KVBuffer, tokens: Sequence[int] = ()) -> State:
        """A busy state for a job; `kv` holds `tokens` already."""
        state = State(owner, session, kv)
        self.used += kv.nbytes
        self._busy[state] = None
        # The root block holds every state, for prefixes shorter than one block.
        self._blocks.setdefault(_root(owner), {})[state] = None
        self._own(state, session)
        self.extend(state, tokens)
        return state

    def extend(self, state: State, tokens: Iterable[int]) -> None:
        """Note that the KV of `tokens` has been computed."""
        state.tokens.extend(tokens)
        state.kv.length = len(state.tokens)
        self._index(state)

    def take(self, state: State, session: str | None, length: int) -> None:
        """Make a retained state busy for a job that shares its first `length` tokens; the rest is rolled back."""
        self._idle_bytes -= state.kv.nbytes
        del self._idle[state]
        self._busy[state] = None
        self._disown(state)
        self._own(state, session)
        self._truncate(state, length)
        self._touch(state)

    def retain(self, state: State) -> None:
        """The job is over; keep the state as a cache, the most recently used."""
        self.freed += 1
        del self._busy[state]
        if state.released or not state.tokens:
            self._forget(state)
            return
        state.busy = False
        self._trim(state)
        self._idle[state] = None
        self._idle_bytes += state.kv.nbytes

    def has(self, session: str | None) -> bool:
        """Whether a session has any state, busy or retained."""
        return session in self._sessions

    def orphan(self, state: State) -> None:
        """Make a busy state nobody's, so that any later job of its owner may take it over."""
        self._disown(state)
        state.session = None

    def drop(self, state: State) -> None:
        """Forget a state and free its KV."""
        self.freed += 1
        if state.busy:
            del self._busy[state]
        else:
            del self._idle[state]
            self._idle_bytes -= state.kv.nbytes
        self._forget(state)

    def resize(self, state: State, capacity: int) -> None:
        """Give a busy state another capacity; the room has been made."""
        before = state.kv.nbytes
        state.kv.resize(capacity)
        self.used += state.kv.nbytes - before

    def release(self, session: str) -> None:
        """Drop what is retained for a session; what its jobs run on is dropped when they are over."""
        for state in list(self._sessions.get(session, ())):
            if state.busy:
                state.released = True
            else:
                self.drop(state)

    def clear(self) -> None:
        for state in [*self._idle, *self._busy]:
            self.drop(state)

    def _candidates(self, owner: str, session: str | None, tokens: Sequence[int]) -> Iterable[State]:
        if session is not None:
            own = reversed(self._sessions.get(session, {}))
            yield from islice((state for state in own if state.owner == owner), CANDIDATES)
        bucket = self._blocks.get(_root(owner), {})
        key = _root(owner)
        for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
            key = hash((key, *tokens[start : start + BLOCK]))
            deeper = self._blocks.get(key)
            if deeper is None:
                break
            bucket = deeper
        yield from islice(reversed(bucket), CANDIDATES)

    def _index(self, state: State) -> None:
        key = state.keys[-1] if state.keys else _root(state.owner)
        for start in range(len(state.keys) * BLOCK, len(state.tokens) - BLOCK + 1, BLOCK):
            key = hash((key, *state.tokens[start : start + BLOCK]))
            state.keys.append(key)
            self._blocks.setdefault(key, {})[state] = None

    def _touch(self, state: State) -> None:
        """Make the state the most recent of every bucket it is in."""
        for key in (_root(state.owner), *state.keys):
            bucket = self._blocks[key]
            bucket.pop(state, None)
            bucket[state] = None

    def _truncate(self, state: State, length: int) -> None:
        blocks = length // BLOCK
        self._unindex(state, state.keys[blocks:])
        del state.keys[blocks:]
        del state.tokens[length:]
        state.kv.length = length
        state.busy = True

    def _trim(self, state: State) -> None:
        """Give back room that a job asked for and did not use, when it is much."""
        slack = state.kv.capacity - state.kv.length
        if slack <= max(128, state.kv.length // 2):
            return
        capacity = state.kv.length + 64
        if self.used + capacity * self.spec.token_bytes <= self.budget:
            self.resize(state, capacity)

    def _forget(self, state: State) -> None:
        self.used -= state.kv.nbytes
        self._disown(state)
        self._unindex(state, [_root(state.owner), *state.keys])

    def _unindex(self, state: State, keys: Iterable[int]) -> None:
        for key in keys:
            bucket = self._blocks.get(key, {})
            bucket.pop(state, None)
            if not bucket:
                self._blocks.pop(key, None)

    def _own(self, state: State, session: str | None) -> None:
        state.session = session
        if session is not None:
            self._sessions.setdefault(session, {})[state] = None

    def _disown(self, state: State) -> None:
        if state.session is None:
            return
        states = self._sessions[state.session]
        del states[state]
        if not states:
            del self._sessions[state.session]


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
