"""Which engine gets a job, and how one is known to be down."""

from __future__ import annotations

from collections import Counter

import pytest

from ark_backends.remote.upstreams import BLOCK, HealthChecks, Silent, Unfit, Upstream, Upstreams, beginnings

URLS = ["http://a", "http://b", "http://c"]


def well(*urls: str) -> Upstreams:
    made = Upstreams(urls, 8)
    for one in made.all:
        one.up = True
    return made


def place(upstreams: Upstreams, session: str, *prompt: int) -> Upstream:
    found = upstreams.choose(session, beginnings("me", prompt), ())
    assert found is not None
    return found


def test_conversations_are_spread_and_move_only_where_their_engine_is_gone() -> None:
    upstreams = well(*URLS)
    before = {name: place(upstreams, name) for name in map(str, range(300))}
    assert min(Counter(before.values()).values()) > 60
    gone = upstreams.all[1]
    gone.up = False
    after = {name: place(upstreams, name) for name in before}
    assert {name for name in before if before[name] is not after[name]} == {
        name for name in before if before[name] is gone
    }
    assert len({after[name] for name in before if before[name] is gone}) == 2
    # Not before its state is there again: the conversation has moved.
    for name, one in after.items():
        upstreams.stay(name, (), one)
    gone.up = True
    assert all(place(upstreams, name) is after[name] for name in before)


def test_a_prompt_goes_where_most_of_it_is_known() -> None:
    upstreams = well(*URLS)
    prompt = [*range(10 * BLOCK)]
    there = place(upstreams, "one", *prompt)
    upstreams.stay("one", beginnings("me", prompt), there)
    names = [str(number) for number in range(20)]
    rewound = [*prompt[: 8 * BLOCK], *range(1000, 1000 + BLOCK)]
    assert {place(upstreams, name, *rewound) for name in names} == {there}
    # Another owner's, or one that has little in common, may be anywhere.
    assert len({upstreams.choose(name, beginnings("you", prompt), ()) for name in names}) == 3
    assert len({place(upstreams, name, *prompt[: 2 * BLOCK], *rewound) for name in names}) == 3
    there.running = 5
    assert len({place(upstreams, name, *rewound) for name in names}) == 3


def test_an_engine_with_too_many_waiting_jobs_gets_no_more() -> None:
    upstreams = well(*URLS[:2])
    first = place(upstreams, "one")
    upstreams.stay("one", (), first)
    first.waiting = 8
    other = place(upstreams, "one")
    assert other is not first
    assert upstreams.choose("one", (), [other]) is None
    first.waiting = 7
    assert place(upstreams, "one") is first


@pytest.mark.parametrize(("running", "downs"), [(0, [True, False]), (1, [True, True])])
def test_an_engine_that_is_busy_may_be_silent(running: int, downs: list[bool]) -> None:
    def ask(url: str) -> None:
        raise Silent("no answer")

    (upstream,) = well("http://a").all
    upstream.running = running
    checks = HealthChecks([upstream], 1.0, ask, ask)
    seen = []
    for _ in downs:
        checks.check(upstream)
        seen.append(upstream.up)
    assert seen == downs


def test_an_engine_that_refuses_a_connection_is_down_until_it_has_joined_again() -> None:
    problem = [Unfit("refused")]

    def ask(url: str) -> None:
        raise problem[0]

    def join(url: str) -> None:
        if problem:
            raise problem[0]

    (upstream,) = well("http://a").all
    checks = HealthChecks([upstream], 1.0, ask, join)
    waits = []
    for _ in range(12):
        checks.check(upstream)
        assert not upstream.up
        waits.append(upstream.due)
    # The intervals grow, to a minute.
    assert waits[-1] - waits[0] > 50
    problem.clear()
    checks.check(upstream)
    assert upstream.up
