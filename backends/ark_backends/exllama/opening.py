"""From a configured model to an engine on one of the generators."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import cast

import torch

from ark.config import ConfigError, ModelConfig
from ark.engines.chat import SamplingParams
from ark.engines.model_files import quantization, read_json
from ark_backends.exllama.engine import ExLlamaEngine
from ark_backends.exllama.generator import Generator
from ark_backends.exllama.loading import loading
from ark_backends.exllama.options import PAGE, ExLlamaOptions, ExLlamaV2Options, ExLlamaV3Options
from ark_backends.exllama.requirements import misplaced
from ark_backends.kit.chat_engine import ChatLimits
from ark_backends.kit.grammar import Grammars
from ark_backends.kit.tokenizer import HFTokenizer, load_tokenizer
from ark_backends.kit.weights import recommended_sampling, resolve

log = logging.getLogger("ark.exllama")


def open_model(
    package: str, model: ModelConfig, options: ExLlamaOptions
) -> tuple[ExLlamaEngine, HFTokenizer, Grammars, SamplingParams]:
    """Find and load a model. Its engine is not started yet. Raises ConfigError."""
    path = resolve(model.source, model.revision)
    _refuse_foreign(package, f"model {model.name!r}, backend", path)
    draft = _draft(package, model, options)
    if (problem := misplaced(options, torch.cuda.device_count())) is not None:
        raise ConfigError(f"model {model.name!r}, {problem}")
    tokenizer = load_tokenizer(path)
    sampling = recommended_sampling(path)
    grammars = Grammars(tokenizer.tokens, hidden=tokenizer.hidden, ends=tokenizer.stop_token_ids)
    prepare(package, model)
    generator, context = _load(package, model, options, path, draft)
    limits = ChatLimits(context_length=context, max_running=options.max_running, max_queue=model.max_queue)
    log.info(
        "%s: %s, context %d, KV %d MB (%d tokens)",
        model.name,
        package,
        context,
        generator.pages.total >> 20,
        generator.pages.total // generator.pages.page_bytes * PAGE,
    )
    return ExLlamaEngine(generator, limits, model.name), tokenizer, grammars, sampling


def prepare(package: str, model: ModelConfig) -> None:
    """Import a generator's package. The first import may compile kernels for minutes. Raises ConfigError."""
    if package == "exllamav2":
        # With neither flash-attn nor xformers it would read prompts through torch's SDPA without a causal mask.
        os.environ.setdefault("EXLLAMA_NO_SDPA", "1")
        if (reason := _broken("flash_attn")) is not None:
            log.warning("flash-attn cannot be imported and is not used: %s", reason)
            os.environ["EXLLAMA_NO_FLASH_ATTN"] = "1"
    if package not in sys.modules:
        log.info("importing %s; the first time this compiles its kernels, for some minutes", package)
    try:
        __import__(package)
    except Exception as error:
        # Otherwise half of it stays, and the next import fails with another error.
        for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
            del sys.modules[name]
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(f"model {model.name!r}: {package} cannot be imported: {lines[-1]}") from error


def _load(
    package: str, model: ModelConfig, options: ExLlamaOptions, path: Path, draft: Path | None
) -> tuple[Generator, int]:
    """A loaded model with its generator, and its context length. Raises ConfigError."""
    with loading(package, model, path):
        if package == "exllamav2":
            from ark_backends.exllama.v2 import open_v2  # noqa: PLC0415 - it imports the package

            return open_v2(model, cast(ExLlamaV2Options, options), path, draft)
        from ark_backends.exllama.v3 import open_v3  # noqa: PLC0415

        return open_v3(model, cast(ExLlamaV3Options, options), path, draft)


def _draft(package: str, model: ModelConfig, options: ExLlamaOptions) -> Path | None:
    """The directory of the draft model."""
    if options.draft_model is None:
        return None
    field = f"model {model.name!r}, engine.draft_model"
    found = ModelConfig(name=options.draft_model)
    try:
        path = resolve(found.source, found.revision)
    except ConfigError as error:
        raise ConfigError(f"{field}: {error}") from error
    _refuse_foreign(package, field, path)
    return path


def _refuse_foreign(package: str, field: str, path: Path) -> None:
    """Refuse weights that the generator cannot read; it would fail deep inside. `field` names their source."""
    try:
        config = read_json(path / "config.json")
    except ConfigError as error:
        raise ConfigError(f"{field}: {error}") from error
    if config is None:
        raise ConfigError(f"{field}: {path} is not the directory of a model: it has no config.json")
    method = quantization(config)
    own = {"exllamav2": {None, "exl2", "gptq"}, "exllamav3": {None, "exl3"}}[package]
    if method in own:
        return
    other = {"exl2": "exllamav2", "exl3": "exllamav3"}.get(str(method))
    advice = f'set backend = "{other}"' if other else "torch_chat may run it"
    raise ConfigError(f"{field}: its weights are {method}, which {package} does not read: {advice}")


def _broken(module: str) -> str | None:
    """Why an installed module cannot be imported; None where it can, or is not installed."""
    try:
        __import__(module)
    except ModuleNotFoundError as error:
        return None if error.name == module else str(error)
    except Exception as error:  # noqa: BLE001 - a library built for another torch fails in any way
        return str(error).splitlines()[0]
    return None
