"""The vectorised sampler against a plain one, and what a seed promises."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ark.engines.chat import SamplingParams
from ark_backends.torch_chat import sampler
from ark_backends.torch_chat.sampler import NotFinite, Sampler, choose

params = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 1.7]),
    top_p=st.sampled_from([1.0, 0.95, 0.5, 0.05]),
    top_k=st.sampled_from([0, 1, 3, 20, 5000]),
    min_p=st.sampled_from([0.0, 0.02, 0.3]),
    seed=st.integers(-5, 5),
)


def allowed(row: torch.Tensor, values: SamplingParams) -> dict[int, float]:
    """Tokens and probabilities that remain, by loops and in float64."""
    scaled = row.double() / values.temperature
    weights = torch.exp(scaled - scaled.max())
    ranked = sorted(enumerate((weights / weights.sum()).tolist()), key=lambda item: -item[1])
    if values.top_k:
        ranked = ranked[: values.top_k]
    total, before, kept = sum(p for _, p in ranked), 0.0, []
    for token, probability in ranked:
        if before < values.top_p * total or values.top_p >= 1.0:
            kept.append((token, probability))
        before += probability
    floor = values.min_p * kept[0][1]
    kept = [(token, probability) for token, probability in kept if probability >= floor]
    total = sum(p for _, p in kept)
    return {token: probability / total for token, probability in kept}


@settings(max_examples=60, deadline=None)
@given(st.lists(params, min_size=1, max_size=6), st.integers(0, 1000), st.sampled_from([30, 3000]))
def test_only_tokens_that_the_reference_allows(batch, seed, vocabulary):
    logits = 3 * torch.randn(len(batch), vocabulary, generator=torch.Generator().manual_seed(seed))
    chosen = choose(logits, [Sampler(values) for values in batch])
    for row, values, token in zip(logits, batch, chosen, strict=True):
        if values.temperature == 0.0:
            assert token == int(row.argmax())
        else:
            assert token in allowed(row, values)


@pytest.mark.parametrize(
    "values",
    [
        SamplingParams(),
        SamplingParams(temperature=0.5, min_p=0.1),
        SamplingParams(top_p=0.7),
        SamplingParams(top_k=4),
        SamplingParams(temperature=1.5, top_k=8, top_p=0.8, min_p=0.05),
    ],
)
def test_frequencies_are_those_of_the_reference(values):
    row = torch.linspace(0, 3, 12)
    draws = 20_000
    chosen = choose(row.expand(draws, -1), [Sampler(_seeded(values, i)) for i in range(draws)])
    expected = allowed(row, values)
    counts = torch.bincount(torch.tensor(chosen), minlength=12).tolist()
    for token, count in enumerate(counts):
        # Five standard deviations of a binomial count.
        p = expected.get(token, 0.0)
        assert abs(count - draws * p) <= 5 * (draws * p * (1 - p)) ** 0.5 + 1e-9


def test_candidates_do_not_change_the_choice(monkeypatch):
    logits = 2 * torch.randn(8, 4000, generator=torch.Generator().manual_seed(3))
    batch = [SamplingParams(top_p=0.3 + 0.08 * i, top_k=(i % 3) * 700, seed=i) for i in range(8)]
    chosen = choose(logits, [Sampler(values) for values in batch])
    monkeypatch.setattr(sampler, "CANDIDATES", 4000)
    assert chosen == choose(logits, [Sampler(values) for values in batch])


def test_a_choice_does_not_depend_on_the_batch():
    logits = torch.randn(10, 500, generator=torch.Generator().manual_seed(1))
    draw = random.Random(0)
    batch = [
        SamplingParams(
            temperature=draw.choice([0.0, 1.0]), top_p=draw.choice([1.0, 0.6]), top_k=draw.choice([0, 9]), seed=i
        )
        for i in range(10)
    ]
    together = choose(logits, [Sampler(values) for values in batch])
    alone = [choose(logits[i : i + 1], [Sampler(values)])[0] for i, values in enumerate(batch)]
    assert together == alone


def test_seeds():
    logits = torch.zeros(1, 100_000)

    def tokens(seed):
        one = Sampler(SamplingParams(seed=seed))
        return [choose(logits, [one])[0] for _ in range(5)]

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)
    assert tokens(1) != tokens(-1)
    assert tokens(None) != tokens(None)


def test_the_last_draw_stays_in_the_vocabulary():
    one = Sampler(SamplingParams())
    one.draw = lambda: 1.0 - 2**-53
    logits = torch.full((1, 50_000), -30.0)
    logits[0, 100] = 0.0
    logits[0, 200:] = float("-inf")
    assert choose(logits, [one])[0] < 200


def test_a_tiny_temperature_is_greedy():
    logits = 50 * torch.randn(4, 300, generator=torch.Generator().manual_seed(2))
    for temperature in (1e-300, 1e-38, 1e-6, 1e-4):
        chosen = choose(logits, [Sampler(SamplingParams(temperature=temperature))] * 4)
        assert chosen == logits.argmax(dim=-1).tolist()


def test_rows_without_numbers_are_named():
    logits = torch.zeros(3, 10)
    logits[1, 4] = float("nan")
    with pytest.raises(NotFinite) as error:
        choose(logits, [Sampler(SamplingParams())] * 3)
    assert error.value.rows == (1,)


def _seeded(values: SamplingParams, seed: int) -> SamplingParams:
    return SamplingParams(
        temperature=values.temperature, top_p=values.top_p, top_k=values.top_k, min_p=values.min_p, seed=seed
    )
