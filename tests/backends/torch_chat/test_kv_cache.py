"""Finding, sharing and evicting cached sequences."""

import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ark_backends.torch_chat.kv import KVBuffer, KVSpec
from ark_backends.torch_chat.kv_cache import BLOCK, CANDIDATES, KVCache, common_prefix

SPEC = KVSpec(layers=1, heads=1, head_dim=1, dtype=torch.float32, device=torch.device("cpu"), windows=(None,))


def held(cache, tokens, *, session=None, owner="", capacity=None):
    """A retained sequence of these tokens."""
    kv = KVBuffer(SPEC, capacity or max(1, len(tokens)))
    cached = cache.new(owner, session, kv, tokens)
    cache.retain(cached)
    return cached


@pytest.fixture
def cache():
    return KVCache(SPEC, 10_000 * SPEC.token_bytes)


tokens = st.lists(st.integers(0, 1), max_size=3 * BLOCK)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(tokens, st.sampled_from("ab"), st.sampled_from([None, "s"])), max_size=12), tokens)
def test_the_longest_prefix_of_the_owner_is_found(known, prompt):
    cache = KVCache(SPEC, 10_000 * SPEC.token_bytes)
    for ids, owner, session in known:
        held(cache, ids, owner=owner, session=session)
    lengths = {None: 0, "s": 0}
    for ids, owner, session in known:
        if owner == "a":
            lengths[session] = max(lengths[session], common_prefix(ids, prompt))
    cached, length = cache.find("a", "s", prompt)
    assert length == max(lengths.values())
    if cached is not None:
        assert cached.owner == "a"
        assert cached.tokens[:length] == prompt[:length]
        assert (cached.session == "s") == (lengths["s"] == length)


@given(tokens, tokens)
def test_common_prefix(a, b):
    expected = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    assert common_prefix(a, b) == expected
    assert common_prefix(a * 9, a * 9 + b) >= 9 * len(a)


def test_a_lookup_does_not_grow_with_the_number_of_sequences():
    cache = KVCache(SPEC, 10_000_000 * SPEC.token_bytes)
    shared = list(range(2000))

    def lookup_time():
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            assert cache.find("", "none", [*shared, -1])[1] == 2000
            best = min(best, time.perf_counter() - start)
        return best

    for i in range(50):
        held(cache, [*shared, i], session=f"s{i}")
    few = lookup_time()
    for i in range(50, 1500):
        held(cache, [*shared, i], session=f"s{i}")
    # Thirty times the sequences; comparing them all would take thirty times as long.
    assert lookup_time() < 5 * few


def test_a_rolled_back_sequence_is_found_by_what_is_left(cache):
    ids = list(range(3 * BLOCK))
    cached = held(cache, ids)
    cache.take(cached, "s", BLOCK + 5)
    cache.extend(cached, [-1] * BLOCK)
    cache.retain(cached)
    assert cache.find("", None, ids) == (cached, BLOCK + 5)
    assert cache.find("", None, [*ids[: BLOCK + 5], *[-1] * BLOCK, 7]) == (cached, 2 * BLOCK + 5)
    assert cached.session == "s"


def test_the_right_one_is_found_among_many(cache):
    """Each begins with the same block; those used last are looked at first."""
    shared = list(range(BLOCK))
    tails = [[i] * (2 * BLOCK) for i in range(3 * CANDIDATES)]
    for tail in tails:
        cached = held(cache, shared, capacity=4 * BLOCK)
        cache.take(cached, None, BLOCK)
        # In pieces that are no multiple of a block, as steps come.
        for start in range(0, len(tail), 20):
            cache.extend(cached, tail[start : start + 20])
        cache.retain(cached)
    for tail in tails:
        assert cache.find("", None, [*shared, *tail, -1])[1] == 3 * BLOCK
        # Less than a block beyond what all share: only a recent one is sure to be looked at.
        cached, length = cache.find("", None, [*shared, *tail])
        cache.take(cached, None, length)
        cache.retain(cached)
        assert cache.find("", None, [*shared, *tail[:5]]) == (cached, BLOCK + 5)


def test_a_busy_sequence_is_found_and_never_evicted(cache):
    busy = cache.new("", "s", KVBuffer(SPEC, 6000), list(range(50)))
    idle = held(cache, list(range(100, 150)), capacity=3000)
    assert cache.find("", None, list(range(50)))[0] is busy
    assert not cache.make_room(4001 * SPEC.token_bytes)
    assert cache.retained == 1
    assert cache.make_room(4000 * SPEC.token_bytes)
    assert cache.retained == 0
    assert cache.find("", None, idle.tokens) == (None, 0)


def test_the_least_recently_used_goes_first(cache):
    first, second, third = (held(cache, [i] * 3000) for i in range(3))
    cache.take(first, None, 3000)
    cache.retain(first)
    assert cache.make_room(3000 * SPEC.token_bytes)
    assert cache.find("", None, second.tokens)[0] is None
    assert cache.find("", None, first.tokens)[0] is first
    assert cache.find("", None, third.tokens)[0] is third


def test_the_owner_who_has_most_goes_first(cache):
    """One who sends many long prompts evicts his own."""
    small = [held(cache, [i] * 100, owner="one") for i in range(3)]
    large = [held(cache, [i] * 900, owner="many") for i in range(10)]
    assert cache.make_room(1000 * SPEC.token_bytes)
    assert list(cache._idle) == [*small, *large[1:]]
    assert cache.make_room(9400 * SPEC.token_bytes)
    # In equal shares, the least recently used of them.
    assert list(cache._idle) in ([*small, *large[10:]], [*small[1:], *large[10:]])
    assert not cache.make_room(10_001 * SPEC.token_bytes)


def test_the_spared_sequence_stays(cache):
    spared = held(cache, [1] * 5000)
    other = held(cache, [2] * 4000)
    assert cache.make_room(4000 * SPEC.token_bytes, keep=spared)
    assert cache.find("", None, other.tokens)[0] is None
    assert cache.find("", None, spared.tokens)[0] is spared
    assert not cache.make_room(5001 * SPEC.token_bytes, keep=spared)


def test_retaining_gives_back_unused_room(cache):
    cached = held(cache, [1] * 100, capacity=4000)
    assert cached.kv.capacity < 200
    assert cache.used == cached.kv.nbytes
    empty = cache.new("", None, KVBuffer(SPEC, 100))
    cache.retain(empty)
    assert cache.used == cached.kv.nbytes


def test_everything_is_forgotten(cache):
    for i in range(20):
        held(cache, [i % 3] * (5 * i + 1), session=f"s{i % 4}")
    for i in range(4):
        cache.release(f"s{i}")
    assert (cache.used, cache.retained) == (0, 0)
    assert not cache._blocks
    assert not cache._sessions
