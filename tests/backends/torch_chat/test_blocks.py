"""Attention in blocks: the numbers of attention written out, whatever the lengths, the window and the room."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ark_backends.torch_chat import blocks
from ark_backends.torch_chat.attention import Piece, Plan
from ark_backends.torch_chat.kv import KVBuffer, KVSpec
from ark_backends.torch_chat.plain_attention import attention
from ark_backends.torch_chat.ways import Ways, measured

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture(autouse=True)
def everything_is_worth_it(monkeypatch):
    monkeypatch.setattr(blocks, "WORTH", 0)


def spec_of(kv_heads, group, head_dim, window):
    return KVSpec(1, kv_heads, head_dim, torch.float32, torch.device("cpu"), (window,), group)


def filled(spec, past, new, room, seed):
    """A sequence of `past` tokens and the keys and values of `new` more, with `room` behind them that holds NaN."""
    draw = torch.Generator().manual_seed(seed)
    kv = KVBuffer(spec, past + new + room)
    kv.data.fill_(float("nan"))
    kv.data[:, :, :, : past + new] = torch.randn(2, 1, spec.heads, past + new, spec.head_dim, generator=draw)
    kv.length = past
    return kv, torch.randn(1, spec.heads * spec.group, new, spec.head_dim, generator=draw)


def written_out(kv, query, window, scale):
    past, new = kv.length, query.shape[2]
    places = torch.arange(past + new)
    ahead = places[None] > places[past:, None]
    if window is not None:
        ahead |= places[None] <= places[past:, None] - window
    mask = torch.zeros(new, past + new).masked_fill_(ahead, float("-inf"))
    key, value = kv.views(0, past + new)
    out = attention(query, key, value, mask, scale=scale, softcap=None, sinks=None)
    return out.transpose(1, 2)


@settings(deadline=None, max_examples=120)
@given(
    past=st.integers(0, 700),
    new=st.integers(1, 300),
    window=st.none() | st.integers(1, 400),
    heads=st.sampled_from([(1, 1), (1, 16), (3, 3), (2, 7), (4, 2)]),
    head_dim=st.sampled_from([16, 64]),
    room=st.sampled_from([0, 1, 77, 600]),
    scale=st.sampled_from([None, 0.3]),
    seed=st.integers(0, 9),
)
def test_it_is_the_attention_that_is_written_out(*, past, new, window, heads, head_dim, room, scale, seed):
    spec = spec_of(*heads, head_dim, window)
    kv, query = filled(spec, past, new, room, seed)
    plan = Plan(spec, [Piece(kv, range(new))], ways=Ways(blocks=True))
    with torch.inference_mode():
        got = plan.attend(0, query, scale, {})
        expected = written_out(kv, query, window, scale or head_dim**-0.5)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@settings(deadline=None, max_examples=300)
@given(
    past=st.integers(0, 40_000),
    new=st.integers(1, 2_000),
    window=st.none() | st.integers(1, 5_000),
    group=st.integers(1, 16),
)
def test_every_token_stands_in_one_block_which_is_small_and_holds_what_it_attends_to(past, new, window, group):
    found = blocks.blocks(past, new, window, group)
    assert [i for block in found for i in range(new)[block.tokens]] == list(range(new))
    for block in found:
        count = block.tokens.stop - block.tokens.start
        last = past + block.tokens.stop - 1
        first = 0 if window is None else max(0, past + block.tokens.start + 1 - window)
        assert block.first <= first
        assert last < block.first + block.keys
        # A token's queries stand together.
        assert count * group <= blocks.MOST_ROWS + group
        assert count * group * block.keys <= 1.5 * blocks.SCORES or count * group <= blocks.FEWEST_ROWS + group
        assert block.hidden.shape == (count, block.keys - block.shown)


def test_a_short_piece_is_left_to_torch(monkeypatch):
    monkeypatch.undo()
    assert not blocks.is_worth(36, 500, 3, 64)
    assert not blocks.is_worth(2, 100_000, 1, 64)
    assert blocks.is_worth(36, 4000, 3, 64)
    assert blocks.is_worth(512, 512, 1, 64)


def test_nothing_before_the_end_is_touched():
    spec = spec_of(2, 2, 16, None)
    kv, _ = filled(spec, 300, 40, 500, 1)
    before = kv.data.clone()
    Plan(spec, [Piece(kv, range(40))], ways=Ways(blocks=True))
    assert torch.equal(kv.data[:, :, :, :340], before[:, :, :, :340])


def test_single_tokens_are_attended_alike_in_either_way():
    spec = spec_of(3, 3, 64, None)
    pairs = [filled(spec, past, 1, 10, past) for past in (5, 90, 400)]
    pieces = [Piece(kv, [0]) for kv, _ in pairs]
    query = torch.cat([query for _, query in pairs], dim=2)
    with torch.inference_mode():
        usual = Plan(spec, pieces).attend(0, query, None, {})
        for limit in (50, 1024):
            other = Plan(spec, pieces, ways=Ways(each_up_to=limit)).attend(0, query, None, {})
            torch.testing.assert_close(other, usual, rtol=1e-4, atol=1e-5)
    for i, (kv, one) in enumerate(pairs):
        expected = written_out(kv, one, None, 64**-0.5)
        torch.testing.assert_close(usual[:, i : i + 1], expected, rtol=1e-4, atol=1e-5)


def test_ways_are_measured_once():
    threads = torch.get_num_threads()
    assert measured(4, 2, 16, threads) is measured(4, 2, 16, threads)
    # One query for each KV head: there is nothing to choose.
    assert measured(4, 4, 16, threads).each_up_to == 0


def test_the_result_lies_in_memory_as_models_expect_it():
    # JetMoe makes a view of it, which another order in memory refuses.
    spec = spec_of(2, 2, 16, None)
    kv, query = filled(spec, 300, 40, 500, 1)
    with torch.inference_mode():
        got = Plan(spec, [Piece(kv, range(40))], ways=Ways(blocks=True)).attend(0, query, None, {})
    assert got.is_contiguous()
