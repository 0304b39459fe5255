"""From a configured model to an engine."""

from __future__ import annotations

import logging
from pathlib import Path

import ctranslate2

from ark.config import ConfigError, ModelConfig
from ark.engines import machine
from ark_backends.kit.child_process import ChildFailedToStart
from ark_backends.kit.weights import resolve
from ark_backends.whisper.audio import AudioDecoder
from ark_backends.whisper.conversion import converted
from ark_backends.whisper.engine import WhisperEngine, check_model
from ark_backends.whisper.options import WhisperOptions
from ark_backends.whisper.recogniser import Recogniser

log = logging.getLogger("ark.whisper")

FILES = ("model.bin", "vocabulary.*")
"""Beside what every model needs: CTranslate2's."""

THREADS = 4
"""CPU threads of one worker at most, unless more are configured: decoding gains little from more."""


def open_model(model: ModelConfig, options: WhisperOptions) -> tuple[WhisperEngine, tuple[str, ...]]:
    """Find, load and check a model: its engine, and its languages. Raises ConfigError."""
    path = resolve(model.source, model.revision, also=FILES)
    try:
        return _open(model, options, path)
    except ConfigError as error:
        raise ConfigError(f"model {model.name!r}: {error}") from error


def _open(model: ModelConfig, options: WhisperOptions, path: Path) -> tuple[WhisperEngine, tuple[str, ...]]:
    device, index = _device(options.device)
    kind = _compute_type(options.compute_type, device, index)
    workers, threads = _shares(options, device)
    if not (path / "model.bin").is_file():
        path = converted(path)
    if not (path / "tokenizer.json").is_file():
        raise ConfigError(f"{path} has no tokenizer.json: copy the one of the model that it was converted from")
    try:
        recogniser = Recogniser(
            str(path),
            device=device,
            device_index=index,
            compute_type=kind,
            cpu_threads=threads,
            num_workers=workers,
            local_files_only=True,
        )
    except Exception as error:  # whatever a broken file makes the libraries raise
        raise ConfigError(f"faster-whisper cannot load {path}: {error}") from error
    missing = recogniser.missing_tokens()
    if missing:
        raise ConfigError(f"the tokenizer in {path} is not Whisper's: it lacks {missing[0]}")
    try:
        check_model(recogniser)
    except Exception as error:
        raise ConfigError(f"the model in {path} cannot transcribe: {error}") from error
    languages = recogniser.languages
    log.info(
        "%s: Whisper on %s in %s, %d workers of %d threads, %s",
        model.name,
        device,
        kind,
        workers,
        threads,
        "English only" if languages == ("en",) else f"{len(languages)} languages",
    )
    decoder = AudioDecoder()
    try:
        decoder.start()
    except ChildFailedToStart as error:
        raise ConfigError(f"the process that decodes recordings does not start: {error}") from error
    engine = WhisperEngine(
        recogniser, options, decoder=decoder, workers=workers, max_queue=model.max_queue, name=model.name
    )
    return engine, languages


def _device(name: str) -> tuple[str, int]:
    """CTranslate2's name of a device, and its index."""
    count = ctranslate2.get_cuda_device_count()
    if name == "auto":
        return ("cuda" if count else "cpu"), 0
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not (kind == "cuda" and index.isdecimal())):
        raise ConfigError(f"device {name!r} cannot be used: auto, cpu, cuda and cuda:1 are known")
    if kind == "cuda" and int(index or 0) >= count:
        raise ConfigError(f"device {name!r} cannot be used: CTranslate2 sees {count} CUDA devices")
    return kind, int(index or 0)


def _compute_type(name: str, device: str, index: int) -> str:
    if name == "auto":
        return "int8" if device == "cpu" else "float16"
    known = ctranslate2.get_supported_compute_types(device, index)
    if name != "default" and name not in known:
        raise ConfigError(f"engine.compute_type = {name} cannot be had here: {', '.join(sorted(known))}")
    return name


def _shares(options: WhisperOptions, device: str) -> tuple[int, int]:
    """Workers, and CPU threads of each."""
    cores = machine.processors()
    # As many threads as faster-whisper takes by itself, so that one request alone is as fast as there; a second worker
    # fills the cores while the first one is at what only one thread can do, and costs a twentieth where both compute.
    threads = options.threads or min(THREADS, cores)
    if options.workers is not None:
        return options.workers, threads
    return (1 if device != "cpu" or cores == 1 else max(2, cores // threads)), threads
