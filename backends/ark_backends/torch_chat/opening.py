"""From a configured model to a running engine."""

from __future__ import annotations

import logging

import msgspec

from ark.config import ConfigError, ModelConfig
from ark.engines.chat import SamplingParams
from ark_backends.kit.grammar import Grammars
from ark_backends.kit.tokenizer import HFTokenizer
from ark_backends.torch_chat import compiled, devices
from ark_backends.torch_chat.attention import UnsupportedModel
from ark_backends.torch_chat.check import cases, self_check, stored_case
from ark_backends.torch_chat.checkpoint import Checkpoint, checkpoint, resolve
from ark_backends.torch_chat.engine import TorchEngine, TorchLimits
from ark_backends.torch_chat.options import TorchChatOptions
from ark_backends.torch_chat.quantize import SAMPLE, STORED_TOKENS, Report, Unfit, quantize
from ark_backends.torch_chat.runner import Runner, longest_context
from ark_backends.torch_chat.stored import has_stored, load_stored

log = logging.getLogger("ark.torch_chat")


def open_model(
    model: ModelConfig, options: TorchChatOptions
) -> tuple[TorchEngine, HFTokenizer, Grammars, SamplingParams]:
    """Find, load, guard and check a model. Its engine is not started yet. Raises ConfigError."""
    files = checkpoint(resolve(model))
    tokenizer, sampling = files.tokenizer(), files.sampling()
    grammars = Grammars(tokenizer.tokens, hidden=tokenizer.hidden, ends=tokenizer.stop_token_ids)
    runner = _runner(model, options, files, tokenizer.encode(SAMPLE))
    return _engine(model, options, runner), tokenizer, grammars, sampling


def _runner(model: ModelConfig, options: TorchChatOptions, files: Checkpoint, sample: list[int]) -> Runner:
    """The model, checked, and quantized where that is wanted and right. `sample` are tokens of a text."""
    exact = msgspec.structs.replace(options, quantization="none")
    try:
        runner = _prepared(model, options, files, sample)
    # The weights are gone: all begins anew.
    except Unfit as error:
        log.warning("%s: quantization none: in int8 %s", model.name, error)
        return _runner(model, exact, files, sample)
    except compiled.NotUsed as error:
        log.warning("%s: compiled kernels are not used: %s", model.name, error)
        runner = _prepared(model, exact, files, sample, compile=False)
    if not runner.deterministic:
        log.info("%s: deterministic false: the last bits depend on what is cached and what runs beside", model.name)
    return runner


def _prepared(
    model: ModelConfig, options: TorchChatOptions, files: Checkpoint, sample: list[int], *, compile: bool = True
) -> Runner:
    if compile and (found := files.compiled(options, sample)) is not None:
        runner, report = found
        _log_report(model, report)
        return runner
    loaded, quantized = files.load(options)
    name = type(loaded).__name__
    try:
        runner = Runner(loaded)
        reason = compiled.unfit(loaded, runner.spec)
        stored = has_stored(loaded)
        if stored and not quantized and not (reason is None and compile):
            load_stored(loaded, runner.dtype, runner.device)
            stored = False
        known = []
        if options.self_check:
            known = [stored_case(runner, sample[:STORED_TOKENS])] if stored else cases(runner)
        # So that each layer is freed as soon as it is replaced.
        del loaded
        if quantized:
            _log_report(model, quantize(runner, sample, known))
        elif reason is None and compile:
            runner.compile()
            try:
                self_check(runner, known)
            except UnsupportedModel as error:
                raise compiled.NotUsed(str(error)) from error
        else:
            self_check(runner, known)
            if runner.pack():
                log.info("%s: linear layers by oneDNN, which is faster here", model.name)
    except UnsupportedModel as error:
        raise ConfigError(f"model {model.name!r}: torch_chat cannot run {name}: {error}") from error
    if reason is not None:
        log.info("%s: compiled kernels are not used: %s", model.name, reason)
    return runner


def _log_report(model: ModelConfig, report: Report | None) -> None:
    if report is not None:
        log.info(
            "%s: quantization int8: %d of %d linear layers, next tokens diverge by %.4f nats; "
            "quantization = 'none' is exact",
            model.name,
            report.quantized,
            report.total,
            report.divergence,
        )


def _engine(model: ModelConfig, options: TorchChatOptions, runner: Runner) -> TorchEngine:
    context = _context(model, runner.config)
    budget = options.kv_bytes or int(devices.KV_SHARE * devices.free_bytes(runner.device))
    held = budget // runner.spec.nbytes(runner.spec.grain) * runner.spec.grain
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
        "" if runner.compiled is None else ", compiled kernels",
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
