"""Whose job runs next, and how many tokens of whose prompt a step computes."""

from collections import Counter, deque

import pytest
import torch

from ark.engines.chat import GenerationJob, SamplingParams
from ark_backends.kit.results import TokenQueue
from ark_backends.torch_chat.kv import KVSpec
from ark_backends.torch_chat.kv_cache import KVCache
from ark_backends.torch_chat.scheduler import PASSING, TRIED, Scheduler, Sequence

SPEC = KVSpec(layers=1, heads=1, head_dim=1, dtype=torch.float32, device=torch.device("cpu"), windows=(None,))
pytestmark = pytest.mark.anyio


class Steps:
    """A scheduler whose steps are counted and not computed. Every job generates one token after the other."""

    def __init__(self, *, max_running: int = 4, prefill_chunk: int = 120, kv_tokens: int = 1_000_000) -> None:
        cache = KVCache(SPEC, kv_tokens * SPEC.token_bytes)
        self.scheduler = Scheduler(cache, deque(), max_running=max_running, prefill_chunk=prefill_chunk)
        self._made = 0

    def add(self, owner: str, prompt: int, replies: int = 1000) -> Sequence:
        self._made += 1
        job = GenerationJob(
            request_id=str(self._made),
            prompt=[self._made] * prompt,
            max_tokens=replies,
            sampling=SamplingParams(temperature=0.0),
            stop_token_ids=frozenset(),
            session=None,
            owner=owner,
        )
        made = Sequence(job, TokenQueue(), width=10)
        self.scheduler.waiting.append(made)
        return made

    def admit(self) -> None:
        for _ in self.scheduler.admit():
            pass

    def step(self) -> Counter[str]:
        """The tokens that a step computes of each owner."""
        self.admit()
        counts = Counter[str]()
        for sequence, count in self.scheduler.step():
            kv = sequence.entry.kv
            self.scheduler.cache.extend(sequence.entry, sequence.tokens[kv.length : kv.length + count])
            counts[sequence.job.owner] += count
            if sequence.pending == 0:
                sequence.tokens.append(1)
        return counts


async def test_the_owner_with_the_fewest_running_jobs_is_next() -> None:
    steps = Steps(max_running=4)
    many = [steps.add("many", 10) for _ in range(20)]
    steps.admit()
    one, two = steps.add("one", 10), steps.add("two", 10)
    steps.scheduler.finish(many[0])
    steps.admit()
    assert steps.scheduler.running == [*many[1:4], one]
    steps.scheduler.finish(many[1])
    steps.admit()
    assert steps.scheduler.running == [*many[2:4], one, two]
    steps.scheduler.finish(one)
    steps.admit()
    # With the others away it goes on, in the order that it came.
    assert steps.scheduler.running == [*many[2:4], two, many[4]]


async def test_what_finds_no_room_does_not_hold_up_the_others() -> None:
    steps = Steps(kv_tokens=1000, max_running=8)
    running, large = steps.add("a", 600, 1), steps.add("b", 500, 1)
    small = [steps.add(owner, 100, 1) for owner in "bca"]
    steps.admit()
    assert steps.scheduler.running == [running, *small]
    steps.scheduler.finish(small[0])
    steps.admit()
    assert large in steps.scheduler.waiting
    steps.scheduler.finish(running)
    steps.admit()
    assert large in steps.scheduler.running


async def test_so_many_begin_before_it_and_no_more() -> None:
    steps = Steps(kv_tokens=1000, max_running=8)
    running, large = steps.add("a", 600, 1), steps.add("b", 500, 1)
    for _ in range(PASSING):
        small = steps.add("c", 100, 1)
        steps.admit()
        assert small in steps.scheduler.running
        steps.scheduler.finish(small)
    last = steps.add("c", 100, 1)
    steps.admit()
    assert steps.scheduler.running == [running]
    steps.scheduler.finish(running)
    steps.admit()
    assert steps.scheduler.running == [large, last]


async def test_what_was_preempted_gets_the_first_room() -> None:
    steps = Steps(kv_tokens=1000, max_running=8)
    running, begun = steps.add("a", 600, 1), steps.add("b", 500, 1)
    begun.announced = True
    small = steps.add("c", 100, 1)
    steps.admit()
    assert steps.scheduler.running == [running]
    steps.scheduler.finish(running)
    steps.admit()
    assert steps.scheduler.running == [begun, small]


async def test_no_more_than_a_few_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until there is more room, which is when something was freed."""
    steps = Steps(kv_tokens=1000, max_running=64)
    steps.add("a", 900, 1)
    for _ in range(40):
        steps.add("b", 500, 1)
    tried: list[Sequence] = []
    start = Scheduler._start

    def counting(self: Scheduler, sequence: Sequence) -> int | None:
        tried.append(sequence)
        return start(self, sequence)

    monkeypatch.setattr(Scheduler, "_start", counting)
    for _ in range(5):
        steps.admit()
    assert len(tried) == 1 + TRIED


async def test_owners_share_the_tokens_of_prompts() -> None:
    steps = Steps()
    steps.add("many", 500)
    steps.add("many", 500)
    steps.add("one", 50)
    assert steps.step() == {"many": 70, "one": 50}
    steps.add("one", 500)
    assert steps.step() == {"many": 60, "one": 61}


async def test_an_owner_alone_has_whole_steps() -> None:
    steps = Steps()
    for _ in range(3):
        steps.add("many", 500)
    assert [steps.step() for _ in range(8)] == [{"many": 120}] * 8


async def test_prompts_of_one_owner_hardly_slow_down_the_replies_of_another() -> None:
    steps = Steps()
    steps.add("one", 1)
    for _ in range(3):
        steps.add("many", 5000)
    steps.step()
    # From its second step on it has taken most, and shares the prompt tokens of each with the other.
    assert [steps.step() for _ in range(20)] == [{"many": 60, "one": 1}] * 20


async def test_more_owners_than_tokens() -> None:
    steps = Steps(max_running=18, prefill_chunk=4)
    for number in range(18):
        steps.add(str(number // 2), 5)
    for _ in range(40):
        assert all(steps.step().values())
    assert all(sequence.generated for sequence in steps.scheduler.running)
