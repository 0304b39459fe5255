"""The backend's own options, ``[models.engine]``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]
Milliseconds = Annotated[int, Meta(ge=0)]
ComputeType = Literal[
    "auto", "default", "int8", "int8_float32", "int8_float16", "int16", "float16", "bfloat16", "float32"
]

MAX_NEW_TOKENS = 220
"""What Whisper's 448 positions have room for behind the longest prompt."""


class VadConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[models.engine.vad]``: what counts as speech. The defaults are faster-whisper's."""

    threshold: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    """Probability above which 32 ms count as speech."""
    min_speech_duration_ms: Milliseconds = 0
    """Shorter speech is dropped."""
    min_silence_duration_ms: Milliseconds = 2000
    """Shorter silence does not end a segment of speech."""
    speech_pad_ms: Milliseconds = 400
    """Audio to keep before and after a segment of speech."""


class WhisperOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[models.engine]`` of a model served by ``whisper``."""

    device: str = "auto"
    """``auto`` takes CUDA if it is available, else the CPU; or ``cpu``, ``cuda`` or ``cuda:1``."""
    compute_type: ComputeType = "auto"
    """Type of the weights in computations; ``auto`` is int8 on a CPU and float16 on CUDA."""
    workers: Positive | None = None
    """Windows of 30 s, each of another request, that are computed at the same time. By default, on a CPU as many as the
    cores have room for, and at least 2; on CUDA 1."""
    threads: Positive | None = None
    """CPU threads of one worker; by default the number of cores, at most 4."""
    max_running: Positive = 8
    """Recordings of one key that are decoded and transcribed at the same time, and one more of another key, taking
    turns by windows. Long ones are in temporary files meanwhile. Further recordings wait as the files that were
    sent."""
    vad: bool | VadConfig = False
    """Remove what is not speech before the model gets it: ``true``, or a table with other values than the defaults."""
    batch: Positive = 1
    """Windows of one recording that are computed together. Over 1, the recording is cut by `vad`, whatever that option
    says, and windows know nothing of each other: ``docs/transcription.md`` says what that costs."""
    beam_size: Positive = 5
    """Hypotheses of the beam search at temperature 0."""
    condition_on_previous_text: bool = True
    """Give the model the text of the previous window. Without it, one mistake does not lead to the next."""
    max_initial_timestamp: Annotated[float, Meta(ge=0, le=30)] = 1.0
    """Latest start of the first segment in a window, in seconds. With 1, as in Whisper, speech that begins later is
    reported to begin then."""
    max_new_tokens: Annotated[int, Meta(ge=1, le=MAX_NEW_TOKENS)] | None = None
    """Largest number of tokens of one window; by default as many as the model has positions for."""
