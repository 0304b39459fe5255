"""Random schedules of jobs against a simple model of what they say and may find.

The engine is turned by hand, so that a schedule always runs in the same order.
"""

from __future__ import annotations

import asyncio
import random

import paged_model
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ark.errors import ContextLengthExceeded, Unavailable

CONTEXT = 1024
KINDS = ["turn", "turn", "turn", "turn", "fresh", "fork", "cancel", "release", "oversized", "fault"]

actions = st.fixed_dictionaries(
    {
        "what": st.sampled_from(KINDS),
        "session": st.sampled_from([None, "a", "b", "c"]),
        # At the border of a page most often.
        "fresh": st.integers(1, 400) | st.sampled_from([256, 257]),
        "count": st.integers(1, 40),
        "n": st.sampled_from([1, 1, 1, 2]),
        "steps": st.sampled_from([0, 1, 3, 10, 200]),
    }
)
schedules = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**16),
        "pages": st.integers(5, 11),
        "max_running": st.integers(1, 4),
        "draft": st.sampled_from([0, 0, 2]),
        "actions": st.lists(actions, min_size=1, max_size=10),
    }
)


class Job:
    """A job and what it has said; its consumer has read all that was sent after each turn of the engine."""

    def __init__(self, chat, job, alone, longest):
        self.job = job
        self.expected = paged_model.greedy(job.prompt, job.max_tokens)
        self.alone = alone
        self.longest = longest
        self.said = {}
        self.cached = None
        self.error = None
        self.cancelled = False
        self.stream = chat.backend.generate(job)
        self.task = asyncio.create_task(self.read())

    async def read(self):
        try:
            async for batch in self.stream:
                if batch.cached_tokens is not None:
                    self.cached = batch.cached_tokens
                self.said.setdefault(batch.index, []).extend(batch.token_ids)
        except Unavailable as error:
            self.error = error

    def check(self):
        for tokens in self.said.values():
            assert tokens == self.expected[: len(tokens)]
        if self.cached is not None:
            assert self.cached < len(self.job.prompt)
            if self.alone:
                # It finds no more than its owner's jobs ever computed.
                assert self.cached <= self.longest
        if self.error is None and not self.cancelled:
            assert sorted(self.said) == list(range(self.job.n))
            assert all(len(tokens) == self.job.max_tokens for tokens in self.said.values())


class Play:
    """A schedule on an engine that is turned by hand."""

    def __init__(self, chat, seed, guessed):
        self.chat = chat
        self.guessed = guessed
        self.draw = random.Random(seed)
        self.jobs = []
        self.talks = {}
        self.computed = {}
        """Owner to the conversations whose KV may be anywhere in the cache."""

    async def turn(self, steps):
        for _ in range(steps):
            # What the loop has to do first: jobs enter, and consumers read.
            for _ in range(4):
                await asyncio.sleep(0)
            self.chat.engine.run_once(wait=False)
            if not self.busy:
                break
        for _ in range(6):
            await asyncio.sleep(0)

    @property
    def busy(self):
        status = self.chat.backend.status()
        return bool(status.running or status.waiting)

    async def act(self, action):
        what, session = action["what"], action["session"]
        if what == "release":
            self.chat.backend.release(session or "nobody")
        elif what == "oversized":
            with pytest.raises(ContextLengthExceeded):
                await self.chat.run([1] * CONTEXT, 1)
        elif what == "cancel":
            await self.cancel()
        elif what == "fault":
            self.chat.model.fault = RuntimeError("a fault of the test's")
            await self.turn(1)
            self.chat.model.fault = None
        else:
            self.start(what, session, action)
        await self.turn(action["steps"])

    def start(self, what, session, action):
        owner = "x" if session in {"a", "b"} else ""
        talk = list(self.talks.get(session, ()))
        if what == "fresh":
            talk = []
        elif what == "fork":
            talk = talk[: self.draw.randrange(len(talk) + 1)]
        prompt = talk + [self.draw.randrange(paged_model.VOCABULARY) for _ in range(action["fresh"])]
        prompt = prompt[: CONTEXT - action["count"]]
        known = self.computed.setdefault(owner, [])
        longest = max((common(prompt, one) for one in known), default=0)
        job = self.chat.job(prompt, action["count"], session=session, owner=owner, n=action["n"])
        made = Job(self.chat, job, not self.busy, longest)
        self.jobs.append(made)
        known.append(prompt + made.expected)
        self.talks[session] = prompt + made.expected

    def check_beginnings(self):
        """What is in a page without another before it is how some conversation begins, up to tokens that were only
        guessed."""
        guessed = self.guessed
        talks = [talk for known in self.computed.values() for talk in known]
        for page in self.chat.generator.pages._table.all_pages:
            if page.prev_hash is None and page.kv_position > guessed:
                held = page.sequence[0, : page.kv_position - guessed].tolist()
                assert any(talk[: len(held)] == held for talk in talks)

    async def cancel(self):
        running = [job for job in self.jobs if not job.task.done()]
        if running:
            job = self.draw.choice(running)
            job.cancelled = True
            job.task.cancel()
            await asyncio.gather(job.task, return_exceptions=True)
            await job.stream.aclose()

    async def end(self):
        await self.turn(5000)
        assert not self.busy
        await asyncio.gather(*(job.task for job in self.jobs), return_exceptions=True)
        for job in self.jobs:
            job.check()
        status = self.chat.backend.status()
        assert status.alive
        assert status.jobs_failed == sum(job.error is not None for job in self.jobs)
        check_table(self.chat)
        self.check_beginnings()
        for session in "abc":
            self.chat.backend.release(session)
        last = Job(self.chat, self.chat.job([1, 2, 3], 20, owner="y"), True, 0)
        await self.turn(5000)
        last.check()


def common(one, other):
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def check_table(chat):
    """No job holds a page, and every page is known once, under its own hash."""
    assert not chat.generator.load
    table = chat.generator.pages._table
    assert not table.referenced_pages
    assert len(table.unreferenced_pages) == len(table.all_pages)
    for phash, page in table.unreferenced_pages.items():
        assert (page.phash, page.ref_count) == (phash, 0)
    assert sorted(page.page_index for page in table.all_pages) == list(range(len(table.all_pages)))


async def play(opened, schedule):
    async with opened(
        pages=schedule["pages"],
        context_length=CONTEXT,
        max_running=schedule["max_running"],
        reserve=256,
        draft_tokens=schedule["draft"],
        by_hand=True,
    ) as chat:
        piece = Play(chat, schedule["seed"], schedule["draft"])
        for action in schedule["actions"]:
            await piece.act(action)
        await piece.end()


@pytest.mark.timeout(1200)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(schedule=schedules)
def test_random_schedules(opened, schedule):
    asyncio.run(play(opened, schedule))
