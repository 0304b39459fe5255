"""From a loaded model to one whose linear layers are in 8 bits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ark_backends.torch_chat import compiled
from ark_backends.torch_chat.check import Case, compared, divergence, windows_of
from ark_backends.torch_chat.runner import Runner
from ark_backends.torch_chat.stored import StoredLinear, load_stored

log = logging.getLogger("ark.torch_chat")

LIMIT = 0.1
"""Mean divergence of next tokens, in nats, above which a model is not served in 8 bits: then something is wrong, and
not just rounded. Usual are 0.001 to 0.01."""

SAMPLE = (Path(__file__).parent / "sample.txt").read_text(encoding="utf-8")
"""Prose, code, numbers and markup: what the model says next in it is compared."""

SAMPLE_TOKENS = 256
"""Tokens of it that are computed."""

STORED_TOKENS = 64
"""The same of a model with stored layers, which takes longer for each."""

ROUTERS = ("router", ".gate")
"""How modules are called that choose among experts: a wrong choice weighs more than its error."""

NARROW = 32
"""Outputs below which a layer is not worth it."""


class Unfit(Exception):
    """The model in 8 bits is not the model."""


@dataclass(frozen=True)
class Report:
    """What was quantized: the number of linear layers, how many of them, and what it costs."""

    total: int
    quantized: int
    divergence: float
    """Of next tokens in the sample, in nats."""


def quantize(runner: Runner, tokens: list[int], known: Sequence[Case] = ()) -> Report:
    """Put int8 in the place of every linear layer; `tokens` are those of a text such as `SAMPLE`, and `known` is what
    the model itself computes.

    Raises Unfit when the model is not what it was afterwards; it is lost then.
    """
    sample = next(((case.windows, *case.sample) for case in known if case.sample is not None), None)
    try:
        if sample is None:
            tokens = tokens[:SAMPLE_TOKENS]
            sample = (runner.spec.windows, tokens, runner.logits(tokens))
        if compiled.unfit(runner.model, runner.spec) is None:
            runner.compile(quantized=True)
            assert runner.compiled is not None
            total = replaced = runner.compiled.linears
        else:
            total, replaced = _replace_modules(runner)
        cost = judge(runner, sample, known)
    except (AttributeError, RuntimeError, TypeError) as problem:
        # Odd models look into their layers' weights.
        raise Unfit(str(problem)) from problem
    return Report(total, replaced, cost)


def judge(
    runner: Runner, sample: tuple[tuple[int | None, ...], list[int], torch.Tensor], known: Sequence[Case]
) -> float:
    """How far the next tokens of a text diverge from what they were, in nats; `sample` has the windows of layers, the
    text's tokens, and the logits before. Raises Unfit where the model is not what it was, there or in a `known` case.
    """
    windows, tokens, before = sample
    with windows_of(runner, windows):
        cost = divergence(runner.logits(tokens), before)
    worst = max([cost, *(divergence(*compared(runner, case)) for case in known)])
    if not worst <= LIMIT:
        raise Unfit(f"its next tokens diverge by {worst:.2g} nats")
    return cost


def _replace_modules(runner: Runner) -> tuple[int, int]:
    """The number of linear layers of a transformers model, and of those that are replaced."""
    # Only here, because they import numba.
    from ark_backends.torch_chat.compiled.linear import Int8Module  # noqa: PLC0415
    from ark_backends.torch_chat.compiled.packing import Arena  # noqa: PLC0415
    from ark_backends.torch_chat.compiled.team import Team  # noqa: PLC0415

    team, arena = Team(torch.get_num_threads()), Arena()
    kinds = (torch.nn.Linear, StoredLinear)
    linears = [(name, module) for name, module in runner.model.named_modules() if type(module) in kinds]
    replaced = 0
    for name, module in linears:
        if not name.endswith(ROUTERS) and module.out_features >= NARROW:
            runner.model.set_submodule(name, Int8Module(module, team, arena))
            replaced += 1
    load_stored(runner.model, torch.float32, runner.device)
    return len(linears), replaced
