"""Penalties and bias, which change single logits before a token is chosen, and log-probabilities of what was chosen.

The formulas of the penalties:

- repetition (Keskar et al. 2019, CTRL, as in Hugging Face and vLLM), for ids in the prompt or the reply:
  ``l / r`` where ``l > 0``, else ``l * r``;
- frequency and presence (OpenAI), for ids in the reply: ``l - frequency * count - presence * (count > 0)``;
- bias: ``l + bias``; stop ids before `min_tokens`: minus infinity.

They are applied in this order. A sequence keeps its ids and their numbers in arrays of its own, to which a token adds
one entry at most, and a step changes the logits of all sequences by one gather and one scatter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import torch

from ark.engines.chat import SamplingParams, TokenLogprob

_FORBIDDEN = float("-inf")

LARGEST = 1e6
"""What a repetition penalty below 1 makes of a logit at most."""


class Penalties:
    """The penalties of one sequence. `add` each generated token."""

    def __init__(self, params: SamplingParams, prompt: Iterable[int], stop_ids: Collection[int], width: int) -> None:
        """`width` is that of the logits; ids beyond it are passed over."""
        self._params = params
        self._width = width
        self._place: dict[int, int] = {}
        self._counts: list[int] = []
        self._generated = 0
        self._stop_ids = [i for i in stop_ids if 0 <= i < width] if params.min_tokens > 0 else []
        self._ids = torch.zeros(64, dtype=torch.long)
        # Rows: what divides or multiplies, what is subtracted, what is added.
        self._numbers = torch.zeros(3, 64, dtype=torch.float32)
        for token, bias in params.logit_bias.items():
            if 0 <= token < width:
                self._bias(token, bias)
        for token in self._stop_ids:
            self._bias(token, _FORBIDDEN)
        if params.repetition_penalty != 1.0:
            self._repeat(prompt)

    @classmethod
    def of(
        cls, params: SamplingParams, prompt: Iterable[int], stop_ids: Collection[int], width: int
    ) -> Penalties | None:
        """The same; None where the parameters change no logit."""
        changes = (
            params.frequency_penalty
            or params.presence_penalty
            or params.repetition_penalty != 1.0
            or params.logit_bias
            or params.min_tokens > 0
        )
        return cls(params, prompt, stop_ids, width) if changes else None

    @property
    def ids(self) -> torch.Tensor:
        return self._ids[: len(self._place)]

    @property
    def numbers(self) -> torch.Tensor:
        """(3, ids): the repetition penalty, what is subtracted, the bias."""
        return self._numbers[:, : len(self._place)]

    def add(self, token: int) -> None:
        """Count a generated token."""
        params = self._params
        self._generated += 1
        if self._generated >= params.min_tokens:
            self.allow_stops()
        if not (params.frequency_penalty or params.presence_penalty or params.repetition_penalty != 1.0):
            return
        if not 0 <= token < self._width:
            return
        slot = self._slot(token)
        self._counts[slot] += 1
        self._numbers[0, slot] = params.repetition_penalty
        self._numbers[1, slot] = params.frequency_penalty * self._counts[slot] + params.presence_penalty

    @property
    def forbids_stops(self) -> bool:
        return bool(self._stop_ids)

    def allow_stops(self) -> None:
        for stop in self._stop_ids:
            self._bias(stop, self._params.logit_bias.get(stop, 0.0))
        self._stop_ids = []

    def _repeat(self, prompt: Iterable[int]) -> None:
        # All at once: one by one, the thousands of a long prompt would hold up the engine's other replies.
        found = [token for token in dict.fromkeys(prompt) if 0 <= token < self._width]
        self._take([token for token in found if token not in self._place])
        slots = torch.tensor([self._place[token] for token in found], dtype=torch.long)
        self._numbers[0, slots] = self._params.repetition_penalty

    def _bias(self, token: int, bias: float) -> None:
        # Before the array is looked at: a new slot may replace it by a longer one.
        slot = self._slot(token)
        self._numbers[2, slot] = bias

    def _slot(self, token: int) -> int:
        slot = self._place.get(token)
        if slot is None:
            slot = len(self._place)
            self._take([token])
        return slot

    def _take(self, tokens: Sequence[int]) -> None:
        """Make slots for ids that have none."""
        begin = len(self._place)
        end = begin + len(tokens)
        self._place.update(zip(tokens, range(begin, end), strict=True))
        self._counts += [0] * len(tokens)
        while end > self._ids.shape[0]:
            self._ids = torch.cat([self._ids, torch.zeros_like(self._ids)])
            self._numbers = torch.cat([self._numbers, torch.zeros_like(self._numbers)], dim=1)
        self._ids[begin:end] = torch.tensor(tokens, dtype=torch.long)
        self._numbers[0, begin:end] = 1.0


def apply_penalties(logits: torch.Tensor, penalties: Sequence[Penalties | None]) -> torch.Tensor:
    """Logits (rows, vocabulary) as the rows' penalties change them, in float32; the same tensor where none does."""
    found = [(row, penalty) for row, penalty in enumerate(penalties) if penalty is not None and len(penalty.ids)]
    if not found:
        return logits
    changed = logits.to(torch.float32, copy=True)
    device = logits.device
    rows = torch.cat([torch.full_like(penalty.ids, row) for row, penalty in found]).to(device)
    ids = torch.cat([penalty.ids for _, penalty in found]).to(device)
    repetition, minus, bias = torch.cat([penalty.numbers for _, penalty in found], dim=1).to(device)
    values = changed[rows, ids]
    # A tiny penalty makes any logit infinite, and a row with one cannot be sampled.
    values = torch.where(values > 0, values / repetition, values * repetition).clamp(max=LARGEST) - minus + bias
    changed[rows, ids] = values
    return changed


def log_probabilities(
    logits: torch.Tensor, chosen: Sequence[int | None], asked: Sequence[int | None]
) -> list[TokenLogprob | None]:
    """For each row of logits (rows, vocabulary) that asks for it: the log-probability of the chosen id, and of the
    `asked` most likely ones. `asked` is None where a row asks for none."""
    found: list[TokenLogprob | None] = [None] * len(chosen)
    rows = [row for row, token in enumerate(chosen) if token is not None and asked[row] is not None]
    if not rows:
        return found
    selected = logits[torch.tensor(rows, device=logits.device)].float()
    distribution = torch.log_softmax(selected, dim=-1)
    picked = torch.tensor([[chosen[i]] for i in rows], device=logits.device)
    own = distribution.gather(1, picked)[:, 0].tolist()
    most = min(max(asked[i] or 0 for i in rows), logits.shape[1])
    values, ids = torch.topk(distribution, most, dim=-1)
    for row, logprob, top_values, top_ids in zip(rows, own, values.tolist(), ids.tolist(), strict=True):
        top = list(zip(top_ids, top_values, strict=True))[: asked[row]]
        # Minus infinity is no JSON; so unlikely an id is none of the most likely.
        found[row] = TokenLogprob(logprob=max(logprob, -9999.0), top=[pair for pair in top if pair[1] > -9999.0])
    return found
