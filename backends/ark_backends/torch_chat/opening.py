"""From a configured model to a running engine."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import msgspec
import torch

from ark.config import ConfigError, ModelConfig
from ark.engines.chat import SamplingParams
from ark_backends.kit.grammar import Grammars
from ark_backends.kit.tokenizer import HFTokenizer, load_tokenizer
from ark_backends.kit.weights import recommended_sampling, resolve
from ark_backends.torch_chat import compiled, devices
from ark_backends.torch_chat.attention import UnsupportedModel
from ark_backends.torch_chat.check import self_check
from ark_backends.torch_chat.engine import TorchEngine, TorchLimits
from ark_backends.torch_chat.int8 import AS_THEY_ARE
from ark_backends.torch_chat.options import TorchChatOptions
from ark_backends.torch_chat.quantize import SAMPLE, Report, Unfit, quantize
from ark_backends.torch_chat.quantized_cache import QuantizedCache
from ark_backends.torch_chat.runner import Runner, load, longest_context

log = logging.getLogger("ark.torch_chat")


def open_model(
    model: ModelConfig, options: TorchChatOptions
) -> tuple[TorchEngine, HFTokenizer, Grammars, SamplingParams]:
    """Find, load, guard and check a model. Its engine is not started yet. Raises ConfigError."""
    path = resolve(model.source, model.revision)
    tokenizer = load_tokenizer(path)
    sampling = recommended_sampling(path)
    grammars = Grammars(tokenizer.tokens, hidden=tokenizer.hidden, ends=tokenizer.stop_token_ids)
    runner = _runner(model, options, path, tokenizer.encode(SAMPLE))
    return _engine(model, options, runner), tokenizer, grammars, sampling


def _runner(model: ModelConfig, options: TorchChatOptions, path: Path, sample: list[int]) -> Runner:
    """The model, checked, and quantized where that is wanted and right. `sample` are tokens of a text."""
    loaded, quantized = load(path, device=options.device, dtype=options.dtype, quantization=options.quantization)
    fast = quantized or loaded.dtype is torch.float32
    runner = _checked(model, options, loaded, fast=fast, pack=not quantized)
    if not quantized:
        return runner
    # So that each layer is freed as soon as it is replaced.
    del loaded
    try:
        report, reason = in_int8(runner, sample, QuantizedCache(path) if options.keep_quantized else None)
    except Unfit as error:
        log.warning("%s: quantization none: in int8 %s", model.name, error)
        return _runner(model, msgspec.structs.replace(options, quantization="none"), path, sample)
    log.info(
        "%s: quantization int8: %d of %d linear layers, logits off by %.1f %%; quantization = 'none' is exact",
        model.name,
        report.total - len(report.kept),
        report.total,
        100 * report.logits_error,
    )
    if report.kept:
        log.info("%s: not in int8: %s", model.name, ", ".join(report.kept[:10]) + (" ..." if report.kept[10:] else ""))
    if reason is None:
        log.info("%s: running streams by compiled steps, which are faster here", model.name)
    else:
        log.info("%s: compiled steps are not used: %s", model.name, reason)
    return runner


def in_int8(runner: Runner, sample: list[int], cache: QuantizedCache | None = None) -> tuple[Report, str | None]:
    """Put a runner's linear layers in 8 bits, and its single tokens on compiled steps.

    Returns what was quantized, and why steps are not compiled where they are not. Raises Unfit as `quantize` does.
    """
    reason = compiled.unable(runner.decoder, runner.spec)
    report = quantize(runner, sample, cache, choice=AS_THEY_ARE if reason is None else None)
    try:
        if reason is None:
            runner.compile()
    except compiled.NotUsed as error:
        reason = str(error)
    return report, reason


def _checked(model: ModelConfig, options: TorchChatOptions, loaded: Any, *, fast: bool, pack: bool) -> Runner:
    """`fast` tries the fast pass first; `pack` has linear layers computed in the fastest way."""
    try:
        runner = Runner(loaded)
        fast = fast and runner.speed_up()
        runner.measure()
        if fast and options.self_check:
            try:
                self_check(runner)
            except UnsupportedModel as error:
                log.warning("%s: the fast pass is not used: %s", model.name, error)
                runner.slow_down()
                runner.measure()
        if runner.ways.blocks:
            log.info("%s: attention to long histories by oneDNN, which is faster here", model.name)
        if pack and runner.pack():
            log.info("%s: linear layers by oneDNN, which is faster here", model.name)
        if runner.decoder is None and options.self_check:
            self_check(runner)
    except UnsupportedModel as error:
        kind = type(loaded).__name__
        raise ConfigError(f"model {model.name!r}: torch_chat cannot run {kind}: {error}") from error
    return runner


def _engine(model: ModelConfig, options: TorchChatOptions, runner: Runner) -> TorchEngine:
    context = _context(model, runner.config)
    budget = options.kv_bytes or int(devices.KV_SHARE * devices.free_bytes(runner.device))
    held = budget // runner.spec.token_bytes
    if held < context:
        log.warning("context reduced from %d to %d tokens: more KV does not fit kv_bytes", context, held)
        context = held
    if context < 2:
        raise ConfigError(f"model {model.name!r}: kv_bytes = {budget} holds no conversation")
    limits = TorchLimits(
        context_length=context,
        kv_bytes=budget,
        prefill_chunk=options.prefill_chunk,
        max_running=options.max_running,
        max_queue=model.max_queue,
        threads=options.threads,
    )
    log.info(
        "%s: %s on %s in %s%s, context %d, KV %d MB (%d tokens)",
        model.name,
        runner.name,
        runner.device,
        str(runner.spec.dtype).removeprefix("torch."),
        "" if runner.decoder is None else ", fast pass",
        context,
        budget >> 20,
        held,
    )
    return TorchEngine(runner, limits, model.name)


def _context(model: ModelConfig, config: object) -> int:
    """Tokens of prompt and reply together, before memory is considered."""
    longest, reason = longest_context(config)
    asked = model.context_length
    if asked is None:
        if reason is not None:
            log.warning("%s: context limited to %d tokens: %s", model.name, longest, reason)
        return longest
    if asked > longest and reason is not None:
        raise ConfigError(f"model {model.name!r}: context_length can be at most {longest}: {reason}")
    return min(asked, longest)
