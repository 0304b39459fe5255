"""Choosing the next token, vectorised over the sequences of a step.

Each sequence has a `Sampler`: its parameters and its own stream of random numbers, so that its tokens do not depend on
what else is in the batch. The order is that of `SamplingParams`: temperature, top_k, top_p, min_p, one draw; what comes
before them has been done to the logits (see `sampling`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch

from ark.engines.chat import SamplingParams
from ark_backends.kit.chat_engine import reply_seed

CANDIDATES = 1024
"""The most likely tokens, looked at first for top_k and top_p: selecting them is far cheaper than sorting all."""

GREEDY = 1e-5
"""Temperatures below this take the most likely token: dividing by them would leave the range of float32."""


class Sampler:
    """How one sequence's tokens are drawn. `draw` gives its next uniform number in [0, 1)."""

    __slots__ = ("draw", "params")

    def __init__(self, params: SamplingParams, index: int = 0) -> None:
        """`index` tells the replies to one prompt apart; each draws its own numbers."""
        self.params = params
        self.draw = random.Random(reply_seed(params, index)).random

    @property
    def greedy(self) -> bool:
        return self.params.temperature < GREEDY

    @property
    def sorts(self) -> bool:
        """Whether tokens must be ranked to truncate the distribution."""
        return self.params.top_k > 0 or self.params.top_p < 1.0


class NotFinite(Exception):
    """Logits are not finite in some `rows`."""

    def __init__(self, rows: Sequence[int]) -> None:
        super().__init__(f"logits are not finite in rows {list(rows)}")
        self.rows = tuple(rows)


def choose(logits: torch.Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """One token id per row of logits (rows, vocabulary), any float type. Raises NotFinite."""
    best, ids = logits.max(dim=-1)
    chosen: list[int] = ids.tolist()
    finite = torch.isfinite(best)
    if not bool(finite.all()):
        raise NotFinite([row for row, fine in enumerate(finite.tolist()) if not fine])
    for ranked in (False, True):
        rows = [i for i, sampler in enumerate(samplers) if not sampler.greedy and sampler.sorts is ranked]
        if rows:
            picked = [samplers[i] for i in rows]
            probabilities = _probabilities(logits, rows, picked)
            if ranked:
                sampled = _draw_ranked(probabilities, picked)
            else:
                sampled = _draw(_truncate_min_p(probabilities, picked), picked)
            for row, token in zip(rows, sampled, strict=True):
                chosen[row] = token
    return chosen


def _probabilities(logits: torch.Tensor, rows: list[int], samplers: Sequence[Sampler]) -> torch.Tensor:
    """Softmax after temperature, float32 (rows, vocabulary)."""
    selected = logits if len(rows) == logits.shape[0] else logits[torch.tensor(rows, device=logits.device)]
    temperatures = _column([c.params.temperature for c in samplers], logits.device)
    return torch.softmax(selected.float() / temperatures, dim=-1)


def _draw_ranked(probabilities: torch.Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """Draw among the tokens that top_k and top_p leave, ranking all only where the most likely do not decide."""
    width = min(CANDIDATES, probabilities.shape[-1])
    values, indices = torch.topk(probabilities, width, dim=-1)
    covered = values.sum(dim=-1).tolist()
    chosen = [0] * len(samplers)
    few: list[int] = []
    many: list[int] = []
    for row, sampler in enumerate(samplers):
        by_k = 0 < sampler.params.top_k <= width
        decided = by_k or (sampler.params.top_k == 0 and covered[row] >= sampler.params.top_p)
        (few if decided or width == probabilities.shape[-1] else many).append(row)
    for rows, whole in ((few, False), (many, True)):
        if not rows:
            continue
        index = torch.tensor(rows, device=probabilities.device)
        picked = [samplers[row] for row in rows]
        if whole:
            ranked, ids = torch.sort(probabilities[index], dim=-1, descending=True)
        else:
            ranked, ids = values[index], indices[index]
        places = torch.tensor(_draw(_truncate(ranked, picked), picked), device=ids.device)
        for row, token in zip(rows, ids.gather(1, places[:, None])[:, 0].tolist(), strict=True):
            chosen[row] = token
    return chosen


def _truncate(ranked: torch.Tensor, samplers: Sequence[Sampler]) -> torch.Tensor:
    """Zero what top_k, then top_p, then min_p drop from probabilities in descending order (rows, candidates)."""
    width = ranked.shape[-1]
    top_k = _column([c.params.top_k or width for c in samplers], ranked.device)
    kept = ranked.masked_fill(torch.arange(width, device=ranked.device) >= top_k, 0.0)
    # Nucleus of what top_k left: a token stays while those before it do not reach top_p of the rest's sum. Without
    # top_k the sum is that of the whole distribution, 1, which a few candidates do not show.
    sums = [1.0 if c.params.top_k == 0 else 0.0 for c in samplers]
    whole = torch.maximum(_column(sums, ranked.device), kept.sum(dim=-1, keepdim=True))
    before = kept.cumsum(dim=-1) - kept
    top_p = _column([c.params.top_p for c in samplers], ranked.device)
    kept = kept.masked_fill((before >= top_p * whole) & (top_p < 1.0), 0.0)
    return _truncate_min_p(kept, samplers)


def _truncate_min_p(probabilities: torch.Tensor, samplers: Sequence[Sampler]) -> torch.Tensor:
    if not any(c.params.min_p > 0.0 for c in samplers):
        return probabilities
    min_p = _column([c.params.min_p for c in samplers], probabilities.device)
    floor = min_p * probabilities.amax(dim=-1, keepdim=True)
    return probabilities.masked_fill(probabilities < floor, 0.0)


def _draw(weights: torch.Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """One index per row, each drawn by its own sampler in proportion to the weights."""
    # float64: in float32 the tail of a large vocabulary is lost in the running sum.
    sums = weights.cumsum(dim=-1, dtype=torch.float64)
    draws = torch.tensor([c.draw() for c in samplers], dtype=torch.float64, device=weights.device)
    # A draw is below 1 and so its product below the total: the place found is of a token that has some weight.
    chosen: list[int] = torch.searchsorted(sums, draws[:, None] * sums[:, -1:], right=True)[:, 0].tolist()
    return chosen


def _column(values: Sequence[float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None]
