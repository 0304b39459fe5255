"""From a GGUF to a runner whose kernels compute it, without transformers."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from pathlib import Path

import torch

from ark_backends.torch_chat.attention import UnsupportedModel
from ark_backends.torch_chat.check import self_check
from ark_backends.torch_chat.gguf.decoder import Decoder
from ark_backends.torch_chat.gguf.referee import NoVerdict, Referee, key
from ark_backends.torch_chat.quantize import STORED_TOKENS, Report, Unfit, judge
from ark_backends.torch_chat.runner import Runner

log = logging.getLogger("ark.torch_chat")


def compiled_runner(
    path: Path, decoder: Decoder, sample: list[int], *, quantized: bool, dtype: torch.dtype | None, check: bool
) -> tuple[Runner, Report | None] | None:
    """A runner of what a file consists of, and what quantizing cost; None where transformers computes something else,
    or nothing at all: then who asks has to do with transformers. Raises NotUsed where nothing can be compiled."""
    runner = Runner(decoder, decoder.spec)
    note = _note(key(path, quantized=quantized, dtype=dtype))
    known = _read(note)
    referee = Referee(path, dtype, sample[:STORED_TOKENS]) if known is None and (check or quantized) else None
    try:
        runner.compile(quantized=quantized)
        assert runner.compiled is not None
        divergence = known or 0.0
        if referee is not None:
            case = referee.case(runner.spec)
            if quantized and case.sample is not None:
                divergence = judge(runner, (case.windows, *case.sample), [case])
            else:
                self_check(runner, [case])
            _write(note, divergence)
    except (NoVerdict, Unfit, UnsupportedModel) as error:
        log.warning("%s: opened by transformers, because without it: %s", path.name, error)
        return None
    finally:
        if referee is not None:
            referee.dismiss()
    return runner, Report(runner.compiled.linears, runner.compiled.linears, divergence) if quantized else None


def _note(name: str) -> Path | None:
    """Where it is noted that a file passed: with the kernels. None where these cannot be kept either."""
    # Only here, because it imports numba.
    from ark_backends.torch_chat.compiled.cache import directory  # noqa: PLC0415

    try:
        return directory() / f"{name}.checked"
    except RuntimeError:
        return None


def _read(note: Path | None) -> float | None:
    """The divergence of a file that passed; None where none has."""
    if note is None:
        return None
    try:
        found = json.loads(note.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, float) else None


def _write(note: Path | None, divergence: float) -> None:
    if note is not None:
        with suppress(OSError):
            note.write_text(json.dumps(divergence))
