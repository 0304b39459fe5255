"""How likely chosen tokens were."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ark.engines.chat import TokenLogprob


def log_probabilities(
    logits: torch.Tensor, chosen: Sequence[int | None], asked: Sequence[int | None]
) -> list[TokenLogprob | None]:
    """For each row of logits (rows, vocabulary) that asks for it: the log-probability of the chosen id, and of so
    many most likely ones. `asked` is None where a row asks for none."""
    found: list[TokenLogprob | None] = [None] * len(chosen)
    rows = [
        i for i, (one, count) in enumerate(zip(chosen, asked, strict=True)) if one is not None and count is not None
    ]
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
