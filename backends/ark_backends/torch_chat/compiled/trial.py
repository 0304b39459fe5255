"""Compiled steps against those of torch, on the model that is to be served: as right, and faster."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch

from ark_backends.kit.packed import seconds
from ark_backends.torch_chat.attention import Piece
from ark_backends.torch_chat.closeness import relative_errors
from ark_backends.torch_chat.compiled.steps import Steps
from ark_backends.torch_chat.kv import KVBuffer, KVSpec

log = logging.getLogger("ark.torch_chat")

SEVERAL = 8
"""Sequences that are tried together, beside one alone."""

PAST = 24
"""Tokens of the shortest of them. Each has one more than the one before."""

ROUNDS = 5
"""Runs of each way that are timed, in turns; the best counts."""

LONGEST = 1.0
"""Seconds after which no further round begins, where the machine is busy."""

ERROR = 0.25
"""Relative error of the logits, of the median row, above which something is wrong. Activations that lie between two
steps of 8 bits may be rounded to either, which changes a few percent."""


def objection(
    steps: Steps, usual: Callable[[Sequence[Piece], Sequence[int]], torch.Tensor], spec: KVSpec
) -> str | None:
    """What speaks against computing single tokens by `steps` instead of by the `usual` pass over pieces."""
    draw = random.Random(0)
    tops = usual([Piece(KVBuffer(spec, 1), [0])], [0]).shape[1]
    pieces = []
    for length in range(PAST, PAST + SEVERAL):
        *past, last = (draw.randrange(tops) for _ in range(length + 1))
        kv = KVBuffer(spec, length + 1)
        usual([Piece(kv, past)], [])
        kv.length = length
        pieces.append(Piece(kv, [last]))

    def ours(count: int) -> torch.Tensor:
        return steps([piece.token_ids[0] for piece in pieces[:count]], [piece.kv for piece in pieces[:count]])

    def theirs(count: int) -> torch.Tensor:
        return usual(pieces[:count], range(count))

    error = float(relative_errors(ours(SEVERAL), theirs(SEVERAL)).median())
    if not error <= ERROR:
        return f"their logits are off by {error:.2g}"
    if all(_is_faster(ours, theirs, count) for count in (1, SEVERAL)):
        return None
    return "torch is as fast here"


def _is_faster(ours: Callable[[int], object], theirs: Callable[[int], object], count: int) -> bool:
    best = [float("inf"), float("inf")]
    end = time.perf_counter() + LONGEST
    for _ in range(ROUNDS):
        for i, way in enumerate((ours, theirs)):
            best[i] = min(best[i], seconds(partial(way, count)))
        if time.perf_counter() > end:
            break
    log.debug("%d tokens: compiled %.2f ms, torch %.2f ms", count, 1e3 * best[0], 1e3 * best[1])
    return best[0] < best[1]
