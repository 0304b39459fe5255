"""From a configured model to a running engine."""

from __future__ import annotations

import logging
from pathlib import Path

from ark.backends import SamplingParams
from ark.config import ConfigError, ModelConfig
from ark_backends.grammar import Grammars
from ark_backends.tokenizer import HFTokenizer, load_tokenizer
from ark_backends.torch_chat import devices
from ark_backends.torch_chat.attention import UnsupportedModel
from ark_backends.torch_chat.check import self_check
from ark_backends.torch_chat.engine import Engine, Limits
from ark_backends.torch_chat.options import TorchChatOptions
from ark_backends.torch_chat.runner import Runner, load, longest_context
from ark_backends.weights import recommended_sampling, resolve

log = logging.getLogger("ark.torch_chat")


def open_model(model: ModelConfig, options: TorchChatOptions) -> tuple[Engine, HFTokenizer, Grammars, SamplingParams]:
    """Find, load, guard and check a model. Its engine is not started yet. Raises ConfigError."""
    path = resolve(model.source, model.revision)
    tokenizer = load_tokenizer(path)
    sampling = recommended_sampling(path)
    grammars = Grammars(tokenizer.tokens, hidden=tokenizer.hidden, ends=tokenizer.stop_token_ids)
    return _engine(model, options, path), tokenizer, grammars, sampling


def _engine(model: ModelConfig, options: TorchChatOptions, path: Path) -> Engine:
    loaded = load(path, device=options.device, dtype=options.dtype)
    context = _context(model, loaded.config)
    try:
        runner = Runner(loaded)
        if options.self_check:
            self_check(runner)
    except UnsupportedModel as error:
        kind = type(loaded).__name__
        raise ConfigError(f"model {model.name!r}: torch_chat cannot run {kind}: {error}") from error
    budget = options.kv_bytes or int(devices.KV_SHARE * devices.free_bytes(runner.device))
    held = budget // runner.spec.token_bytes
    if held < context:
        log.warning("context reduced from %d to %d tokens: more KV does not fit kv_bytes", context, held)
        context = held
    if context < 2:
        raise ConfigError(f"model {model.name!r}: kv_bytes = {budget} holds no conversation")
    limits = Limits(
        context_length=context,
        kv_bytes=budget,
        prefill_chunk=options.prefill_chunk,
        max_running=options.max_running,
        max_queue=model.max_queue,
        threads=options.threads,
    )
    log.info(
        "%s: %s on %s in %s, context %d, KV %d MB (%d tokens)",
        model.name,
        type(loaded).__name__,
        runner.device,
        str(runner.spec.dtype).removeprefix("torch."),
        context,
        budget >> 20,
        held,
    )
    return Engine(runner, limits, model.name)


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
