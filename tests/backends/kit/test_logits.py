"""Penalties and log-probabilities against plain reference implementations."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from ark.engines.chat import SamplingParams
from ark_backends.kit.logits import Penalties, apply_penalties, log_probabilities

WIDTH = 24


def reference(
    logits: list[float], params: SamplingParams, prompt: list[int], reply: list[int], stops: set[int]
) -> list[float]:
    """The formulas, one id after the other."""
    result = []
    for token, logit in enumerate(logits):
        value = logit
        if token in prompt or token in reply:
            value = value / params.repetition_penalty if value > 0 else value * params.repetition_penalty
        count = reply.count(token)
        value -= params.frequency_penalty * count
        value -= params.presence_penalty if count else 0
        value += params.logit_bias.get(token, 0.0)
        if token in stops and len(reply) < params.min_tokens:
            value = -math.inf
        result.append(value)
    return result


tokens = st.integers(0, WIDTH - 1)
rows = st.tuples(
    st.builds(
        SamplingParams,
        frequency_penalty=st.sampled_from([0.0, 0.7, -2.0]),
        presence_penalty=st.sampled_from([0.0, 1.3, -0.4]),
        repetition_penalty=st.sampled_from([1.0, 1.5, 0.6]),
        logit_bias=st.dictionaries(tokens, st.sampled_from([-100.0, -1.5, 2.0, 100.0]), max_size=3),
        min_tokens=st.integers(0, 6),
    ),
    st.lists(tokens, max_size=8),
    st.lists(tokens, max_size=8),
    st.sets(tokens, max_size=3),
)


@settings(deadline=None)
@given(batch=st.lists(rows, min_size=1, max_size=4), seed=st.integers(0, 9))
def test_penalties_are_those_of_the_formulas(
    batch: list[tuple[SamplingParams, list[int], list[int], set[int]]], seed: int
) -> None:
    logits = torch.randn(len(batch), WIDTH, generator=torch.Generator().manual_seed(seed)) * 4
    penalties: list[Penalties | None] = []
    for params, prompt, reply, stops in batch:
        one = Penalties.of(params, prompt, stops, WIDTH)
        for token in reply if one is not None else ():
            assert one is not None
            one.add(token)
        penalties.append(one)
    got = apply_penalties(logits, penalties)
    for row, (params, prompt, reply, stops) in enumerate(batch):
        expected = reference(logits[row].tolist(), params, prompt, reply, stops)
        assert torch.allclose(got[row], torch.tensor(expected), atol=1e-5)


def test_more_ids_than_the_first_arrays_hold() -> None:
    params = SamplingParams(repetition_penalty=2.0, frequency_penalty=1.0)
    prompt = list(range(0, 500, 2))
    one = Penalties(params, prompt, (), 500)
    for token in range(1, 500, 2):
        one.add(token)
    got = apply_penalties(torch.ones(1, 500), [one])[0]
    assert torch.equal(got[0::2], torch.full((250,), 0.5))
    assert torch.equal(got[1::2], torch.full((250,), -0.5))


def test_nothing_is_copied_where_nothing_is_asked_for() -> None:
    logits = torch.randn(2, WIDTH)
    assert apply_penalties(logits, [None, None]) is logits
    assert Penalties.of(SamplingParams(temperature=0.3, top_p=0.5, seed=3), [1], (), WIDTH) is None


def test_ids_beyond_the_vocabulary_are_passed_over() -> None:
    params = SamplingParams(logit_bias={WIDTH + 5: 3.0, 1: 3.0}, min_tokens=2, repetition_penalty=1.5)
    one = Penalties(params, [WIDTH + 9], {WIDTH + 7, 2}, WIDTH)
    one.add(WIDTH + 1)
    got = apply_penalties(torch.zeros(1, WIDTH), [one])[0].tolist()
    assert (got[1], got[2]) == (3.0, -math.inf)
    one.add(3)
    assert apply_penalties(torch.zeros(1, WIDTH), [one])[0, 2] == 0.0, "min_tokens are there"


def test_log_probabilities() -> None:
    logits = torch.randn(4, WIDTH) * 3
    chosen = [3, 5, None, 7]
    found = log_probabilities(logits, chosen, [2, None, 1, 0])
    assert found[1] is None
    assert found[2] is None
    for row, count in ((0, 2), (3, 0)):
        weights = [math.exp(value) for value in logits[row].tolist()]
        expected = [math.log(weight / sum(weights)) for weight in weights]
        one, token = found[row], chosen[row]
        assert one is not None
        assert token is not None
        assert one.logprob == pytest.approx(expected[token], abs=1e-4)
        best = sorted(range(WIDTH), key=lambda i: -expected[i])[:count]
        assert [i for i, _ in one.top] == best
        assert [value for _, value in one.top] == pytest.approx([expected[i] for i in best], abs=1e-4)


def test_log_probabilities_are_numbers_that_json_knows() -> None:
    logits = torch.full((1, 3), -math.inf)
    logits[0, 0] = 0.0
    (one,) = log_probabilities(logits, [1], [3])
    assert one is not None
    assert one.logprob == -9999.0
    assert one.top == [(0, 0.0)]


def test_many_biases() -> None:
    """More than the arrays are made for, and stop ids behind them."""
    width = 300
    params = SamplingParams(logit_bias={i: -float(i) for i in range(1, 200)}, min_tokens=1)
    one = Penalties(params, (), range(190, 260), width)
    logits = apply_penalties(torch.zeros(1, width), [one])[0]
    assert logits[1:190].tolist() == [-float(i) for i in range(1, 190)]
    assert logits[190:260].tolist() == [float("-inf")] * 70
    assert one.forbids_stops
    one.add(0)
    assert not one.forbids_stops
    logits = apply_penalties(torch.zeros(1, width), [one])[0]
    assert logits.tolist() == [-float(i) if i < 200 else 0.0 for i in range(width)]


@pytest.mark.parametrize("penalty", [1e-30, 1e-300])
def test_the_smallest_repetition_penalty_leaves_finite_logits(penalty: float) -> None:
    one = Penalties(SamplingParams(repetition_penalty=penalty), [0, 1, 2], (), WIDTH)
    changed = apply_penalties(torch.tensor([[9.0, -9.0, 0.0] + [1.0] * (WIDTH - 3)]), [one])
    assert torch.isfinite(changed).all()
    assert changed[0].argmax() == 0
