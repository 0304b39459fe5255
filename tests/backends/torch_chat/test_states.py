"""Finding, sharing and evicting retained states."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ark_backends.torch_chat.kv import KVBuffer, KVSpec
from ark_backends.torch_chat.states import BLOCK, CANDIDATES, States, common_prefix

SPEC = KVSpec(layers=1, heads=1, head_dim=1, dtype=torch.float32, device=torch.device("cpu"), windows=(None,))


def held(states, tokens, *, session=None, owner="", capacity=None):
    """A retained state of these tokens."""
    kv = KVBuffer(SPEC, capacity or max(1, len(tokens)))
    state = states.new(owner, session, kv, tokens)
    states.retain(state)
    return state


@pytest.fixture
def states():
    return States(SPEC, 10_000 * SPEC.token_bytes)


tokens = st.lists(st.integers(0, 1), max_size=3 * BLOCK)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(tokens, st.sampled_from("ab"), st.sampled_from([None, "s"])), max_size=12), tokens)
def test_the_longest_prefix_of_the_owner_is_found(known, prompt):
    states = States(SPEC, 10_000 * SPEC.token_bytes)
    for ids, owner, session in known:
        held(states, ids, owner=owner, session=session)
    lengths = {None: 0, "s": 0}
    for ids, owner, session in known:
        if owner == "a":
            lengths[session] = max(lengths[session], common_prefix(ids, prompt))
    state, length = states.find("a", "s", prompt)
    assert length == max(lengths.values())
    if state is not None:
        assert state.owner == "a"
        assert state.tokens[:length] == prompt[:length]
        assert (state.session == "s") == (lengths["s"] == length)


@given(tokens, tokens)
def test_common_prefix(a, b):
    expected = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    assert common_prefix(a, b) == expected
    assert common_prefix(a * 9, a * 9 + b) >= 9 * len(a)


def test_a_lookup_does_not_grow_with_the_number_of_states():
    states = States(SPEC, 10_000_000 * SPEC.token_bytes)
    shared = list(range(2000))

    def lookup_time():
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            assert states.find("", "none", [*shared, -1])[1] == 2000
            best = min(best, time.perf_counter() - start)
        return best

    for i in range(50):
        held(states, [*shared, i], session=f"s{i}")
    few = lookup_time()
    for i in range(50, 1500):
        held(states, [*shared, i], session=f"s{i}")
    # Thirty times the states; comparing them all would take thirty times as long.
    assert lookup_time() < 5 * few


def test_a_rolled_back_state_is_found_by_what_is_left(states):
    ids = list(range(3 * BLOCK))
    state = held(states, ids)
    states.take(state, "s", BLOCK + 5)
    states.extend(state, [-1] * BLOCK)
    states.retain(state)
    assert states.find("", None, ids) == (state, BLOCK + 5)
    assert states.find("", None, [*ids[: BLOCK + 5], *[-1] * BLOCK, 7]) == (state, 2 * BLOCK + 5)
    assert state.session == "s"


def test_the_right_one_is_found_among_many(states):
    """Each begins with the same block; those used last are looked at first."""
    shared = list(range(BLOCK))
    tails = [[i] * (2 * BLOCK) for i in range(3 * CANDIDATES)]
    for tail in tails:
        state = held(states, shared, capacity=4 * BLOCK)
        states.take(state, None, BLOCK)
        # In pieces that are no multiple of a block, as steps come.
        for start in range(0, len(tail), 20):
            states.extend(state, tail[start : start + 20])
        states.retain(state)
    for tail in tails:
        assert states.find("", None, [*shared, *tail, -1])[1] == 3 * BLOCK
        # Less than a block beyond what all share: only a recent one is sure to be looked at.
        state, length = states.find("", None, [*shared, *tail])
        states.take(state, None, length)
        states.retain(state)
        assert states.find("", None, [*shared, *tail[:5]]) == (state, BLOCK + 5)


def test_a_busy_state_is_found_and_never_evicted(states):
    busy = states.new("", "s", KVBuffer(SPEC, 6000), list(range(50)))
    idle = held(states, list(range(100, 150)), capacity=3000)
    assert states.find("", None, list(range(50)))[0] is busy
    assert not states.make_room(4001 * SPEC.token_bytes)
    assert states.retained == 1
    assert states.make_room(4000 * SPEC.token_bytes)
    assert states.retained == 0
    assert states.find("", None, idle.tokens) == (None, 0)


def test_the_least_recently_used_goes_first(states):
    first, second, third = (held(states, [i] * 3000) for i in range(3))
    states.take(first, None, 3000)
    states.retain(first)
    assert states.make_room(3000 * SPEC.token_bytes)
    assert states.find("", None, second.tokens)[0] is None
    assert states.find("", None, first.tokens)[0] is first
    assert states.find("", None, third.tokens)[0] is third


def test_the_spared_state_stays(states):
    spared = held(states, [1] * 5000)
    other = held(states, [2] * 4000)
    assert states.make_room(4000 * SPEC.token_bytes, keep=spared)
    assert states.find("", None, other.tokens)[0] is None
    assert states.find("", None, spared.tokens)[0] is spared
    assert not states.make_room(5001 * SPEC.token_bytes, keep=spared)


def test_retaining_gives_back_unused_room(states):
    state = held(states, [1] * 100, capacity=4000)
    assert state.kv.capacity < 200
    assert states.used == state.kv.nbytes
    empty = states.new("", None, KVBuffer(SPEC, 100))
    states.retain(empty)
    assert states.used == state.kv.nbytes


def test_everything_is_forgotten(states):
    for i in range(20):
        held(states, [i % 3] * (5 * i + 1), session=f"s{i % 4}")
    for i in range(4):
        states.release(f"s{i}")
    assert (states.used, states.retained) == (0, 0)
    assert not states._blocks
    assert not states._sessions
