"""Masks of what grammars allow, for the logits of a step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ark_backends.kit.grammar import GrammarFailed, Matcher


def fill_masks(matchers: Sequence[Matcher | None]) -> tuple[torch.Tensor, list[int]] | None:
    """A mask for each matcher, as int32 (rows, words), and the rows whose grammar failed; None where there is none.

    Call it when the model's pass has been started: on a GPU the two run side by side. A mask takes a few microseconds,
    so a thread for them would cost more than it saves.
    """
    if not any(matchers):
        return None
    words = max(matcher.words for matcher in matchers if matcher is not None)
    bits = torch.full((len(matchers), words), -1, dtype=torch.int32)
    failed = []
    for row, matcher in enumerate(matchers):
        if matcher is not None:
            try:
                matcher.fill(bits[row])
            except GrammarFailed:
                failed.append(row)
    return bits, failed


def apply_masks(logits: torch.Tensor, bits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
    """Logits (rows, vocabulary) with minus infinity where the bits (rows, words) of these rows forbid an id.

    Ids beyond the masks, which pad a model's vocabulary, are forbidden in these rows as well.
    """
    if len(rows) == logits.shape[0]:
        return logits.masked_fill(_forbidden(bits, logits), float("-inf"))
    masked = logits.clone()
    place = torch.tensor(rows, dtype=torch.long, device=logits.device)
    bound = logits[place]
    masked[place] = bound.masked_fill(_forbidden(bits[torch.tensor(rows, dtype=torch.long)], bound), float("-inf"))
    return masked


def _forbidden(bits: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Bits that allow an id, as a mask of those that are not allowed, of the logits' shape and device."""
    width = logits.shape[1]
    octets = (~bits).view(torch.uint8)
    if logits.device.type == "cpu":
        # One pass over bytes, where torch needs one for each operation.
        forbidden = torch.from_numpy(np.unpackbits(octets.numpy(), axis=1, bitorder="little")).view(torch.bool)
    else:
        places = torch.arange(8, device=logits.device, dtype=torch.uint8)
        forbidden = ((octets.to(logits.device)[:, :, None] >> places) & 1).flatten(1).bool()
    if forbidden.shape[1] < width:
        return torch.nn.functional.pad(forbidden, (0, width - forbidden.shape[1]), value=True)
    return forbidden[:, :width]
