"""The self-check at load: the packed pass against the model's own.

Some architectures accept packing and compute something else. Two sequences of different lengths are run in three
packed steps, prefill, prefill beside decoding, and decoding, and every logit row is compared.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ark_backends.torch_chat.attention import Piece, UnsupportedModel
from ark_backends.torch_chat.kv import KVBuffer
from ark_backends.torch_chat.runner import Runner

TOLERANCE = {torch.float32: 2e-3, torch.float64: 2e-3}
HALF_TOLERANCE = 0.15
"""Relative error in half types, where sums are rounded in another order. A wrong model is off by about 1."""
SHORT_WINDOW = 8


def self_check(runner: Runner) -> None:
    """Raises UnsupportedModel when packed logits differ from plain ones."""
    windows = {window for window in runner.spec.windows if window is not None}
    longest = max(windows, default=0)
    if longest > 64:
        # A real window may be thousands of tokens: try with all windows made short, on both sides.
        with _short_windows(runner):
            error = _error(runner, 3 * SHORT_WINDOW)
        if error <= _tolerance(runner):
            return
    error = _error(runner, max(24, longest + 16))
    if error > _tolerance(runner):
        raise UnsupportedModel(f"packed and plain passes differ (relative error {error:.2g})")


def _error(runner: Runner, length: int) -> float:
    """Largest relative error of a row of logits, over two sequences of about `length` tokens."""
    draw = random.Random(length)
    top = min(runner.vocab_size, 1000)
    first, second = ([draw.randrange(top) for _ in range(n)] for n in (length, length - 7))
    buffers = [KVBuffer(runner.spec, length) for _ in range(2)]
    got: list[tuple[int, int, torch.Tensor]] = []
    # Each step: for either sequence, up to which token it goes.
    for ends in ((length - 2, 5), (length - 1, length - 8), (length, length - 7)):
        jobs = []
        for which, (tokens, end) in enumerate(zip((first, second), ends, strict=True)):
            piece = Piece(buffers[which], tokens[buffers[which].length : end])
            jobs.append((which, piece))
        jobs.sort(key=lambda job: len(job[1].token_ids) > 1)
        logits = runner.forward([piece for _, piece in jobs], range(len(jobs)))
        for (which, piece), row in zip(jobs, logits, strict=True):
            piece.kv.length += len(piece.token_ids)
            got.append((which, piece.kv.length - 1, row))
    plain = [plain_logits(runner, tokens) for tokens in (first, second)]
    errors = []
    for which, place, row in got:
        expected = plain[which][place].float()
        difference = torch.linalg.vector_norm(row.float() - expected)
        errors.append(float(difference / torch.linalg.vector_norm(expected).clamp_min(1e-12)))
    return max(float("inf") if math.isnan(error) else error for error in errors)


def plain_logits(runner: Runner, tokens: list[int]) -> torch.Tensor:
    """Logits (tokens, vocabulary) of the model with its own attention."""
    model = runner.model
    packed = model.config._attn_implementation
    model.set_attn_implementation(runner.plain_attention)
    try:
        with torch.inference_mode():
            ids = torch.tensor([tokens], device=runner.device)
            logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[0]
            return logits
    finally:
        model.set_attn_implementation(packed)


def _tolerance(runner: Runner) -> float:
    return TOLERANCE.get(runner.model.dtype, HALF_TOLERANCE)


@contextmanager
def _short_windows(runner: Runner) -> Iterator[None]:
    """Every sliding window of the model made short, wherever it is written down."""
    places: list[tuple[Any, Any]] = []
    seen: set[int] = set()
    for module in runner.model.modules():
        for holder in (module, getattr(module, "config", None)):
            window = getattr(holder, "sliding_window", None)
            if holder is not None and id(holder) not in seen and isinstance(window, int):
                places.append((holder, window))
                holder.sliding_window = SHORT_WINDOW
                seen.add(id(holder))
    spec = runner.spec
    try:
        runner.spec = runner.probe()
        yield
    finally:
        runner.spec = spec
        for holder, window in places:
            holder.sliding_window = window
