"""From a loaded model to one whose linear layers are in 8 bits.

A sample text goes through the model layer by layer. Each linear layer is quantized when its inputs arrive, so that
only one exists twice, and keeps its own numbers where 8 bits would change its outputs too much.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from ark_backends.torch_chat.closeness import relative_errors
from ark_backends.torch_chat.int8 import Int8Linear, Int8Module, Kernels, Rounded, rounded
from ark_backends.torch_chat.linear import FloatLinear, Linear
from ark_backends.torch_chat.quantized_cache import QuantizedCache, QuantizedLayers
from ark_backends.torch_chat.runner import Runner

log = logging.getLogger("ark.torch_chat")

LAYER_ERROR = 0.1
"""Relative error of a layer's outputs above which it stays as it is. Usual are 0.01 to 0.03."""

LOGITS_ERROR = 0.25
"""Relative error of the logits, of the median token, above which the model is not served in 8 bits: then something is
wrong, and not just rounded."""

SAMPLE = (
    "The harbour was quiet at six in the morning. Two boats had come in during the night, and their crews were asleep. "
    'Anna counted the crates: 14, 15, 16. "That is one more than the list says," she called. Nobody answered. '
    "def total(prices): return sum(price * 1.19 for price in prices)\n"
    "| name | weight |\n|---|---|\n| Öl | 3,5 kg |\n"
)

SAMPLE_TOKENS = 128
"""Tokens of the sample that are computed: enough to see outliers, and a moment's work."""

ROUTERS = ("router", ".gate")
"""How modules are called that choose among experts: a wrong choice weighs more than its error."""

NARROW = 32
"""Outputs below which a layer is not worth it."""

EVERY = 2.0
"""Seconds between two lines about the progress."""


class Unfit(Exception):
    """The model in 8 bits is not the model."""


@dataclass(frozen=True)
class Report:
    """What was quantized: the number of linear layers, and the names of those that keep their own numbers."""

    total: int
    kept: tuple[str, ...]
    logits_error: float = 0.0


def quantize(
    runner: Runner, tokens: list[int], store: QuantizedCache | None = None, *, choice: Kernels | None = None
) -> Report:
    """Put int8 in the place of every linear layer that bears it; `tokens` are those of a text such as `SAMPLE`.

    Layers that a `store` has are taken from there, and what is made anew is kept in it. `choice` says which copies the
    layers of the fast pass keep; others, and those without it, are measured. Raises Unfit when the model is not what it
    was afterwards; it is lost then.
    """
    tokens = tokens[:SAMPLE_TOKENS]
    kept = None if store is None else store.read()
    made: dict[str, Rounded] | None = None if store is None else {}
    try:
        if kept is not None:
            return _restore(runner, kept, choice)
        if runner.decoder is not None:
            before, report = _fit_decoder(runner, tokens, made, choice)
        else:
            before, report = _fit_modules(runner, tokens, made)
        # Most rows and not all: where a model chooses among experts, a token may go to others.
        error = float(relative_errors(runner.logits(tokens), before).median())
    except (AttributeError, RuntimeError, TypeError) as problem:
        # Odd models look into their layers' weights.
        raise Unfit(str(problem)) from problem
    if not error <= LOGITS_ERROR:
        raise Unfit(f"its logits are off by {error:.2g}")
    if store is not None:
        store.write(QuantizedLayers(report.total, error, made or {}))
    return replace(report, logits_error=error)


def _restore(runner: Runner, kept: QuantizedLayers, choice: Kernels | None) -> Report:
    """Layers that were fitted before. Others have shown that they do not bear it."""
    left: list[str] = []
    if runner.decoder is not None:
        runner.let_go()
        for name, layer, put in runner.decoder.linears():
            if name in kept.layers and isinstance(layer, FloatLinear):
                put(Int8Linear(kept.layers[name], layer.bias, choice))
            else:
                left.append(name)
    else:
        for name, module in list(runner.model.named_modules()):
            if type(module) is torch.nn.Linear and name in kept.layers:
                small = Int8Linear(kept.layers[name], module.bias)
                runner.model.set_submodule(name, Int8Module(small, module.in_features))
            elif type(module) is torch.nn.Linear:
                left.append(name)
    return Report(kept.total, tuple(left), kept.logits_error)


def _fit_decoder(
    runner: Runner, tokens: list[int], made: dict[str, Rounded] | None, choice: Kernels | None
) -> tuple[torch.Tensor, Report]:
    decoder = runner.decoder
    assert decoder is not None
    runner.let_go()
    places = [(name, layer, put) for name, layer, put in decoder.linears() if isinstance(layer, FloatLinear)]
    found = _Found(_Progress(len(places)), made, choice)
    for name, layer, put in places:
        put(_Fitting(name, layer, put, found))
    del places, layer, put
    before = runner.logits(tokens)
    return before, Report(found.progress.total, tuple(found.kept))


def _bears(got: torch.Tensor, expected: torch.Tensor) -> bool:
    # Not a number is more than anything.
    return bool((relative_errors(got, expected) <= LAYER_ERROR).all())


@dataclass
class _Found:
    """What one pass finds out."""

    progress: _Progress
    made: dict[str, Rounded] | None
    """Layers in 8 bits, where they are to be kept."""
    choice: Kernels | None
    kept: list[str] = field(default_factory=list)
    """Names of layers that stay as they are."""


class _Fitting:
    """Stands in the place of a linear layer for one pass, then puts there what is right."""

    def __init__(self, name: str, layer: FloatLinear, put: Callable[[Linear], None], found: _Found) -> None:
        self._name = name
        self._layer = layer
        self._put = put
        self._found = found

    def __call__(self, x: torch.Tensor, factor: torch.Tensor | None = None) -> torch.Tensor:
        layer = self._layer
        expected = layer(x, factor)
        whole = rounded(layer.weight)
        small = Int8Linear(whole, layer.bias, self._found.choice)
        fits = _bears(small(x, factor), expected)
        self._put(small if fits else layer)
        if not fits:
            self._found.kept.append(self._name)
        elif self._found.made is not None:
            self._found.made[self._name] = whole
        self._found.progress.step()
        # What follows is fitted to the inputs that it was trained on.
        return expected


def _fit_modules(runner: Runner, tokens: list[int], made: dict[str, Rounded] | None) -> tuple[torch.Tensor, Report]:
    """The same for layers of a transformers model."""
    linears = {name: module for name, module in runner.model.named_modules() if type(module) is torch.nn.Linear}
    progress = _Progress(len(linears))
    fitted: dict[str, Int8Module] = {}

    def hook(module: Any, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        name = names[module]
        if name in fitted or name.endswith(ROUTERS) or module.out_features < NARROW:
            return
        whole = rounded(module.weight)
        small = Int8Module(Int8Linear(whole, module.bias), module.in_features)
        width = module.out_features
        got, expected = small(arguments[0]).reshape(-1, width), output.reshape(-1, width)
        if _bears(got, expected):
            fitted[name] = small
            if made is not None:
                made[name] = whole
        progress.step()

    names = {module: name for name, module in linears.items()}
    hooks = [module.register_forward_hook(hook) for module in linears.values()]
    try:
        before = runner.logits(tokens)
    finally:
        for one in hooks:
            one.remove()
    for name, module in fitted.items():
        runner.model.set_submodule(name, module)
    return before, Report(len(linears), tuple(name for name in linears if name not in fitted))


class _Progress:
    """Says in the log how far it is, a few times."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._done = 0
        self._said = time.monotonic()

    def step(self) -> None:
        self._done += 1
        if time.monotonic() - self._said > EVERY:
            self._said = time.monotonic()
            log.info("quantizing: %d of %d linear layers", self._done, self.total)
