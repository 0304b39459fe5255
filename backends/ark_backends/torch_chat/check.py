"""The self-check at load: the pass that is to be served against the model's own.

Some architectures accept packing and compute something else. Two sequences of different lengths are run in three
packed steps, prefill, prefill beside decoding, and decoding, and every row of logits is compared.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.functional import kl_div, log_softmax

from ark_backends.torch_chat.attention import Piece, UnsupportedModel
from ark_backends.torch_chat.kv import KVBuffer
from ark_backends.torch_chat.runner import Runner

TOLERANCE = {torch.float32: 2e-3, torch.float64: 2e-3}
HALF_TOLERANCE = 0.15
"""Relative error in half types, where sums are rounded in another order. A wrong model is off by about 1."""
SHORT_WINDOW = 8

ROWS = 8
"""Rows of logits that are compared at a time."""


@dataclass(frozen=True)
class Case:
    """Sequences, and what the model itself computes for them."""

    windows: tuple[int | None, ...]
    sequences: tuple[list[int], list[int]]
    expected: tuple[torch.Tensor, torch.Tensor]
    """Logits (tokens, vocabulary) of each."""
    sample: tuple[list[int], torch.Tensor] | None = None
    """Tokens of a text, and logits of them in the same way."""


def cases(runner: Runner) -> list[Case]:
    """What is to be compared, computed by the model as it was loaded: to be called before others take its weights."""
    longest = max((window for window in runner.spec.windows if window is not None), default=0)
    if longest <= 64:
        return [_case(runner, max(24, longest + 16))]
    # A real window may be thousands of tokens: all windows are made short, on both sides.
    with _short_windows(runner):
        return [_case(runner, 3 * SHORT_WINDOW)]


def stored_case(runner: Runner, sample: list[int]) -> Case:
    """The same for a model with stored layers, with all that is to be known of it in one pass, because each reads all
    of its file. It is the packed one, which for architectures that the kernels compute is known to be right."""
    windows = tuple(None if window is None else min(window, SHORT_WINDOW) for window in runner.spec.windows)
    first, second = _random_tokens(runner, 3 * SHORT_WINDOW)
    with windows_of(runner, windows):
        rows = runner.logits(first, second, sample)
    one, other, read = rows.split([len(first), len(second), len(sample)])
    return Case(windows, (first, second), (one, other), (sample, read))


def self_check(runner: Runner, known: list[Case] | None = None) -> None:
    """Raises UnsupportedModel when packed logits differ from those of the `known` cases."""
    tolerance = TOLERANCE.get(runner.dtype, HALF_TOLERANCE)
    for case in cases(runner) if known is None else known:
        got, expected = compared(runner, case)
        error = float(relative_errors(got, expected).max())
        if not error <= tolerance:
            raise UnsupportedModel(f"packed and plain passes differ (relative error {error:.2g})")


def compared(runner: Runner, case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of logits, and those that were expected."""
    with windows_of(runner, case.windows):
        buffers = [KVBuffer(runner.spec, len(tokens)) for tokens in case.sequences]
        lengths = [len(tokens) for tokens in case.sequences]
        got, expected = [], []
        # Each step: for either sequence, up to which token it goes.
        for back, ahead in ((2, 5), (1, lengths[1] - 1), (0, lengths[1])):
            jobs = []
            for which, end in enumerate((lengths[0] - back, ahead)):
                piece = Piece(buffers[which], case.sequences[which][buffers[which].length : end])
                jobs.append((which, piece))
            jobs.sort(key=lambda job: len(job[1].token_ids) > 1)
            logits = runner.forward([piece for _, piece in jobs], range(len(jobs)))
            for (which, piece), row in zip(jobs, logits, strict=True):
                piece.kv.length += len(piece.token_ids)
                got.append(row)
                expected.append(case.expected[which][piece.kv.length - 1])
        return torch.stack(got), torch.stack(expected)


def relative_errors(got: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """For each row (rows, width): the length of the difference over that of what was expected."""
    difference = torch.linalg.vector_norm(got.float() - expected.float(), dim=-1)
    return difference / torch.linalg.vector_norm(expected.float(), dim=-1).clamp_min(1e-12)


def divergence(got: torch.Tensor, expected: torch.Tensor) -> float:
    """The mean Kullback-Leibler divergence of next tokens from the expected ones, in nats, of logits (rows, width)."""
    total = 0.0
    # A vocabulary is large: not all rows at once in float64.
    for one, other in zip(got.split(ROWS), expected.split(ROWS), strict=True):
        ours, theirs = log_softmax(one.double(), dim=-1), log_softmax(other.double(), dim=-1)
        total += float(kl_div(ours, theirs, log_target=True, reduction="sum"))
    return total / len(got)


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


def _case(runner: Runner, length: int) -> Case:
    first, second = _random_tokens(runner, length)
    expected = (plain_logits(runner, first), plain_logits(runner, second))
    return Case(runner.spec.windows, (first, second), expected)


def _random_tokens(runner: Runner, length: int) -> tuple[list[int], list[int]]:
    draw = random.Random(length)
    top = min(runner.vocab_size, 1000)
    first, second = ([draw.randrange(top) for _ in range(n)] for n in (length, length - 7))
    return first, second


@contextmanager
def windows_of(runner: Runner, windows: tuple[int | None, ...]) -> Iterator[None]:
    """The windows of the pass that is to be served made those of a case."""
    spec = runner.spec
    try:
        runner.attend_to(windows)
        yield
    finally:
        runner.attend_to(spec.windows)


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
        runner.spec = replace(spec, windows=runner.probe().windows)
        yield
    finally:
        runner.spec = spec
        for holder, window in places:
            holder.sliding_window = window
