"""Which jobs run, and what each step computes.

Jobs are admitted when the KV of their prompt fits the budget beside what runs; retained sequences make room. The owner
with the fewest running jobs is next, with those in the order they came; where one finds no room, a few others may begin
before it. An owner who takes most of the tokens computed gets a share of a step's prompt tokens while others have jobs
running: nobody's many or long prompts hold up everybody else. When a running sequence grows and finds no memory, the
youngest one is preempted: it waits again, is computed anew later and goes on as if nothing had happened. So memory is
used by work, not by reservations for the worst case.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

from ark.engines.chat import GenerationJob, TokenBatch
from ark_backends.kit.chat_engine import Reply, next_waiting
from ark_backends.kit.grammar import Matcher
from ark_backends.kit.results import ResultQueue
from ark_backends.torch_chat.kv import KVBuffer
from ark_backends.torch_chat.kv_cache import CachedSequence, KVCache
from ark_backends.torch_chat.sampling import SamplingState

HEADROOM = 256
"""Tokens of KV allocated beyond a prompt at admission, where the job may need as many."""

PASSING = 16
"""Jobs that may begin before one that came earlier and finds no room for its KV."""
TRIED = 8
"""Jobs that are tried until there is more room: looking for the prefix of each takes time."""

MOST = 2 / 3
"""Of the tokens computed: an owner who takes more has his prompts slowed down while others have jobs running."""
RECENT = 64
"""Steps after which what was computed before counts half."""


class Sequence(Reply):
    """A reply with the tokens it has so far, prompt and generated."""

    def __init__(
        self,
        job: GenerationJob,
        results: ResultQueue[TokenBatch],
        index: int = 0,
        matcher: Matcher | None = None,
        *,
        width: int,
    ) -> None:
        """`width` is that of the logits."""
        super().__init__(job, results, index)
        self.tokens = list(job.prompt)
        self.sampling = SamplingState(job, index, matcher, width)
        self.cached: CachedSequence | None = None
        """Its KV; None while it waits."""
        self.began_session = False
        """Its session had no KV when it was admitted."""
        self.scored = 0 if job.prompt_logprobs and index == 0 else len(job.prompt) - 1
        """Places of the prompt, from its beginning, of which it is told how likely the token behind them was."""
        self.announced = index > 0
        """Its consumer knows of the admission, which is told once for all replies."""
        self.refused = -1
        """What `KVCache.freed` was when there was no room for it."""
        self.passed = 0
        """Sequences that began before it since."""

    @property
    def entry(self) -> CachedSequence:
        """Its entry in the cache, while it runs."""
        if self.cached is None:
            raise RuntimeError("the sequence does not run")
        return self.cached

    @property
    def pending(self) -> int:
        """Tokens whose KV is not computed yet; the last one has none until it has been read."""
        return len(self.tokens) - self.entry.kv.length

    @property
    def unscored(self) -> bool:
        return self.scored < len(self.job.prompt) - 1

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.job.prompt)

    @property
    def limit(self) -> int:
        """Tokens that will ever need KV: the last generated one does not."""
        return len(self.job.prompt) + self.job.max_tokens - 1


class Scheduler:
    """The waiting and the running sequences of an engine. Used on its thread only."""

    def __init__(self, cache: KVCache, waiting: deque[Sequence], *, max_running: int, prefill_chunk: int) -> None:
        self.cache = cache
        self.waiting = waiting
        self.max_running = max_running
        self.prefill_chunk = prefill_chunk
        self.running: list[Sequence] = []
        """Oldest first."""
        self._computed: Counter[str] = Counter()
        """Tokens of each owner, older ones counting less."""
        self._steps = 0

    def admit(self) -> Iterator[tuple[Sequence, int]]:
        """Start waiting sequences while there is room; yields each with the number of its cached tokens."""
        while self.waiting and len(self.running) < self.max_running:
            refused = [sequence for sequence in self.waiting if sequence.refused == self.cache.freed]
            if len(refused) >= TRIED or any(not self._may_be_passed(sequence) for sequence in refused):
                return
            left = [sequence for sequence in self.waiting if sequence not in refused]
            if not left:
                return
            sequence = next_waiting(left, self.running)
            found = self._start(sequence)
            if found is None:
                sequence.refused = self.cache.freed
                continue
            for other in refused:
                other.passed += 1
            self.waiting.remove(sequence)
            self.running.append(sequence)
            yield sequence, found

    def step(self) -> list[tuple[Sequence, int]]:
        """What to compute next: sequences and their numbers of tokens, those with one token first."""
        scheduled = []
        for sequence, count in self._share():
            # An earlier one may have preempted it.
            if sequence.cached is not None and self._grow(sequence, count):
                scheduled.append((sequence, count))
        scheduled.sort(key=lambda item: item[1] > 1)
        self._note(scheduled)
        return scheduled

    def finish(self, sequence: Sequence, *, keep: bool = True, cancelled: bool = False) -> None:
        """Remove a sequence, running or waiting. Its KV is retained, or dropped when it cannot be trusted.

        A cancelled job's KV leaves a session that had none before: the session will not ask for it, but the same
        request sent again will find it.
        """
        (self.running if sequence in self.running else self.waiting).remove(sequence)
        cached, sequence.cached = sequence.cached, None
        if cached is None:
            return
        if keep:
            if cancelled and sequence.began_session:
                self.cache.orphan(cached)
            self.cache.retain(cached)
        else:
            self.cache.drop(cached)

    def _may_be_passed(self, sequence: Sequence) -> bool:
        # One that was preempted gets the first room, or it would be computed again and again.
        return sequence.passed < PASSING and not sequence.announced

    def _share(self) -> list[tuple[Sequence, int]]:
        """Tokens for each running sequence, oldest first. Owners share `prefill_chunk` for their prompts: each gets an
        equal part, and what those do not need who need less."""
        counts = {sequence: 1 for sequence in self.running if sequence.pending == 1}
        prompts: dict[str, list[Sequence]] = {}
        for sequence in self.running:
            if sequence.pending > 1:
                prompts.setdefault(sequence.job.owner, []).append(sequence)
        waiting = sorted(prompts.items(), key=lambda item: sum(sequence.pending for sequence in item[1]))
        left, owners = self.prefill_chunk, len({sequence.job.owner for sequence in self.running})
        for number, (owner, own) in enumerate(waiting):
            part = -(-left // (len(waiting) - number))
            if owners > 1 and self._computed[owner] > MOST * self._computed.total():
                part = min(part, -(-self.prefill_chunk // owners))
            if part > 0:
                left -= self._divide(own, part, counts)
        return [(sequence, counts[sequence]) for sequence in self.running if sequence in counts]

    def _divide(self, prompts: list[Sequence], part: int, counts: dict[Sequence, int]) -> int:
        """Share tokens among the prompts of one owner, and return how many are taken: half of them go to the oldest, so
        that it ends; the other half to the shortest, so that it need not wait for a long one."""
        left = part
        if len(prompts) > 1:
            counts[prompts[0]] = min(prompts[0].pending, -(-left // 2))
            left -= counts[prompts[0]]
            for sequence in sorted(prompts[1:], key=lambda sequence: sequence.pending):
                if left > 0:
                    counts[sequence] = min(sequence.pending, left)
                    left -= counts[sequence]
        if left > 0:
            given = counts.get(prompts[0], 0)
            counts[prompts[0]] = min(prompts[0].pending, given + left)
            left -= counts[prompts[0]] - given
        return part - left

    def _note(self, scheduled: list[tuple[Sequence, int]]) -> None:
        """Count what each owner has computed in the last steps."""
        self._steps += 1
        if self._steps % RECENT == 0:
            self._computed = Counter({owner: count // 2 for owner, count in self._computed.items() if count > 1})
        for sequence, count in scheduled:
            self._computed[sequence.job.owner] += count

    def _start(self, sequence: Sequence) -> int | None:
        """Give a sequence its KV. Returns the number of tokens found there, None when there is no room yet."""
        job, cache = sequence.job, self.cache
        if not sequence.announced:
            sequence.began_session = not cache.has(job.session)
        # What is found in the cache has no logits.
        source, found = (None, 0) if sequence.unscored else cache.find(job.owner, job.session, sequence.tokens[:-1])
        capacity = self._capacity(sequence, len(sequence.tokens))
        size = cache.spec.nbytes(capacity)
        if source is not None and self._movable(source, job, found):
            roomy = source.kv.capacity >= len(sequence.tokens)
            if roomy or cache.make_room(source.kv.resizing(capacity), keep=source):
                cache.take(source, job.session, found)
                sequence.cached = source
                if not roomy:
                    cache.resize(source, capacity)
                return found
        elif cache.make_room(size, keep=source):
            kv = KVBuffer(cache.spec, capacity) if source is None else source.kv.fork(found, capacity)
            sequence.cached = cache.new(job.owner, job.session, kv, sequence.tokens[:found])
            return found
        if source is not None and not self.running and cache.make_room(size):
            # Source and copy do not fit together, and nobody else will make room: begin anew.
            sequence.cached = cache.new(job.owner, job.session, KVBuffer(cache.spec, capacity))
            return 0
        return None

    def _movable(self, source: CachedSequence, job: GenerationJob, found: int) -> bool:
        """Whether a job may go on in a cached sequence itself instead of a copy."""
        if source.busy or source.session not in (None, job.session):
            return False
        # A session may hold other conversations, and a leftover be the start of several. It is moved when the rollback
        # loses less than a copy has to carry, as for the next turn of a conversation or a reply generated again.
        return len(source.tokens) - found <= found

    def _capacity(self, sequence: Sequence, length: int) -> int:
        # By half at least: so a sequence moves, and preempts others, a few times only however long it gets.
        return min(sequence.limit, length + max(HEADROOM, length // 2))

    def _grow(self, sequence: Sequence, count: int) -> bool:
        """Make sure that `count` more tokens fit; False when the sequence was preempted itself."""
        entry, cache = sequence.entry, self.cache
        needed = entry.kv.length + count
        if needed <= entry.kv.capacity:
            return True
        while True:
            for capacity in (self._capacity(sequence, needed), needed):
                if cache.make_room(entry.kv.resizing(capacity)):
                    cache.resize(entry, capacity)
                    return True
            youngest = self.running[-1]
            self._preempt(youngest)
            if youngest is sequence:
                return False

    def _preempt(self, sequence: Sequence) -> None:
        self.finish(sequence)
        self.waiting.appendleft(sequence)
