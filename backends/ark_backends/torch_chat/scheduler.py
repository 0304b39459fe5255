"""Which jobs run, and what each step computes.

Jobs are admitted in the order they came, when their prompt's KV fits the budget beside what runs; retained states
make room. A running sequence that grows and finds no memory sends the youngest one back to wait: that one is computed
again later and goes on as if nothing had been, so memory is used by work and not by reservations for the worst case.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from ark.engines.chat import GenerationJob
from ark_backends.kit.engine import shares
from ark_backends.kit.grammar import Matcher
from ark_backends.kit.results import Mailbox
from ark_backends.torch_chat.kv import KVBuffer
from ark_backends.torch_chat.states import State, States
from ark_backends.torch_chat.voice import Voice

HEADROOM = 256
"""Tokens of KV allocated beyond a prompt at admission, where the job may need as many."""


class Sequence:
    """One reply of a job with the tokens it has so far, prompt and generated."""

    __slots__ = ("announced", "first", "followers", "index", "job", "mailbox", "state", "tokens", "voice")

    def __init__(self, job: GenerationJob, mailbox: Mailbox, voice: Voice, index: int = 0) -> None:
        self.job = job
        self.mailbox = mailbox
        self.index = index
        """Which of the job's replies it is."""
        self.followers: list[Sequence] = []
        """The job's other replies, which wait for this one to have computed the prompt."""
        self.tokens = list(job.prompt)
        self.voice = voice
        self.state: State | None = None
        self.first = False
        """The session that it names had no state when it was admitted."""
        self.announced = False
        """Its consumer knows that it has been admitted."""

    @property
    def running_state(self) -> State:
        if self.state is None:
            raise RuntimeError("the sequence does not run")
        return self.state

    @property
    def pending(self) -> int:
        """Tokens whose KV is not computed yet; the last one has none until it has been read."""
        return len(self.tokens) - self.running_state.kv.length

    @property
    def generated(self) -> int:
        return len(self.tokens) - len(self.job.prompt)

    @property
    def limit(self) -> int:
        """Tokens that will ever need KV: the last generated one does not."""
        return len(self.job.prompt) + self.job.max_tokens - 1


def sequences(job: GenerationJob, mailbox: Mailbox, matcher: Matcher | None, width: int) -> Sequence:
    """The sequence of a job's first reply, with the others behind it. `width` is that of the logits."""
    made = [Sequence(own, mailbox, Voice(own, index, fork, width), index) for index, own, fork in shares(job, matcher)]
    leader = made[0]
    leader.followers = made[1:]
    for follower in leader.followers:
        # The consumer is told once.
        follower.announced = True
    return leader


class Scheduler:
    """The waiting and the running sequences of an engine. Used on its thread only."""

    def __init__(self, states: States, *, max_running: int, prefill_chunk: int) -> None:
        self.states = states
        self.max_running = max_running
        self.prefill_chunk = prefill_chunk
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        """Oldest first."""
        self._refused: tuple[Sequence, int] | None = None
        """The first of the waiting when there was no room for it, and what `States.freed` was then."""

    def admit(self) -> Iterator[tuple[Sequence, int]]:
        """Start waiting sequences while there is room; yields each with the tokens whose KV was there already."""
        while self.waiting and len(self.running) < self.max_running:
            sequence = self.waiting[0]
            if self._refused == (sequence, self.states.freed):
                # Looking for its prefix at every step of the others would cost them time, and find the same.
                return
            cached = self._start(sequence)
            if cached is None:
                self._refused = (sequence, self.states.freed)
                return
            self.waiting.popleft()
            self.running.append(sequence)
            yield sequence, cached

    def step(self) -> list[tuple[Sequence, int]]:
        """What to compute next: sequences and their numbers of tokens, those with one token first."""
        work = []
        for sequence, count in self._share():
            # One before may have sent this one back.
            if sequence.state is not None and self._grow(sequence, count):
                work.append((sequence, count))
        work.sort(key=lambda item: item[1] > 1)
        return work

    def finish(self, sequence: Sequence, *, keep: bool = True, cancelled: bool = False) -> None:
        """Remove a sequence, running or waiting. Its KV is retained, or dropped when it cannot be trusted.

        What a cancelled job began for a session that had nothing before is nobody's afterwards: the session will not
        ask for it, but the same request sent again will find it.
        """
        (self.running if sequence in self.running else self.waiting).remove(sequence)
        state, sequence.state = sequence.state, None
        if state is None:
            return
        if keep:
            if cancelled and sequence.first:
                self.states.orphan(state)
            self.states.retain(state)
        else:
            self.states.drop(state)

    def _share(self) -> list[tuple[Sequence, int]]:
        """Tokens for each running sequence, oldest first. Prompts share `prefill_chunk`: half of it goes to the
        oldest, so that it ends; the other half to the shortest, so that it need not wait for a long one."""
        counts = {sequence: 1 for sequence in self.running if sequence.pending == 1}
        prompts = [sequence for sequence in self.running if sequence.pending > 1]
        left = self.prefill_chunk
        if len(prompts) > 1:
            counts[prompts[0]] = min(prompts[0].pending, -(-left // 2))
            left -= counts[prompts[0]]
            for sequence in sorted(prompts[1:], key=lambda sequence: sequence.pending):
                if left > 0:
                    counts[sequence] = min(sequence.pending, left)
                    left -= counts[sequence]
        if prompts and left > 0:
            given = counts.get(prompts[0], 0)
            counts[prompts[0]] = min(prompts[0].pending, given + left)
        return [(sequence, counts[sequence]) for sequence in self.running if sequence in counts]

    def _start(self, sequence: Sequence) -> int | None:
        """Give a sequence its KV. Returns the number of tokens found there, None when there is no room yet."""
        job, states = sequence.job, self.states
        if not sequence.announced:
            sequence.first = not states.has(job.session)
        source, cached = states.find(job.owner, job.session, sequence.tokens[:-1])
        capacity = self._capacity(sequence, len(sequence.tokens))
        size = capacity * states.spec.token_bytes
        if source is not None and self._movable(source, job, cached):
            if source.kv.capacity >= len(sequence.tokens) or states.make_room(size, keep=source):
                states.take(source, job.session, cached)
                sequence.state = source
                if source.kv.capacity < len(sequence.tokens):
                    states.resize(source, capacity)
                return cached
        elif states.make_room(size, keep=source):
            kv = KVBuffer(states.spec, capacity) if source is None else source.kv.fork(cached, capacity)
            sequence.state = states.new(job.owner, job.session, kv, sequence.tokens[:cached])
            return cached
        if source is not None and not self.running and states.make_room(size):
            # Source and copy do not fit together, and nobody else will make room: begin anew.
            sequence.state = states.new(job.owner, job.session, KVBuffer(states.spec, capacity))
            return 0
        return None

    def _movable(self, source: State, job: GenerationJob, cached: int) -> bool:
        """Whether a job may go on in a state itself instead of a copy."""
        if source.busy or source.session not in (None, job.session):
            return False
        # A session may hold other conversations, and a leftover be the start of several: the state is moved when its
        # rollback loses less than a copy has to carry, as a next turn's or a regenerated one's does.
        return len(source.tokens) - cached <= cached

    def _capacity(self, sequence: Sequence, length: int) -> int:
        # By half at least: so a sequence moves, and sends others back, a few times only however long it gets.
        wanted = length + max(HEADROOM, length // 2)
        capacity = min(sequence.limit, wanted)
        if sequence.job.session is None:
            return capacity
        # A session's next turn goes on in the same memory. Without room behind the reply it would begin by moving all
        # of its state, which its first token waits for; memory that nobody needs is given for that, and no other.
        spacious = min(sequence.limit + max(HEADROOM, length // 8), wanted)
        fits = self.states.used + spacious * self.states.spec.token_bytes <= self.states.budget
        return spacious if fits else capacity

    def _grow(self, sequence: Sequence, count: int) -> bool:
        """Make sure that `count` more tokens fit; False when the sequence had to go back to wait."""
        state, states = sequence.running_state, self.states
        needed = state.kv.length + count
        if needed <= state.kv.capacity:
            return True
        while True:
            for capacity in (self._capacity(sequence, needed), needed):
                if states.make_room(capacity * states.spec.token_bytes):
                    states.resize(state, capacity)
                    return True
            youngest = self.running[-1]
            self._send_back(youngest)
            if youngest is sequence:
                return False

    def _send_back(self, sequence: Sequence) -> None:
        self.finish(sequence)
        self.waiting.appendleft(sequence)
