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
    """``[models.engine.vad]``: what the voice activity detector takes for speech. The values are faster-whisper's."""

    threshold: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    """Probability over which a piece of 32 ms is speech."""
    min_speech_duration_ms: Milliseconds = 0
    """Speech that is shorter is thrown away."""
    min_silence_duration_ms: Milliseconds = 2000
    """Silence that is shorter does not end a piece of speech."""
    speech_pad_ms: Milliseconds = 400
    """Sound that is kept before and behind a piece of speech."""


class WhisperOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[models.engine]`` of a model served by ``whisper``."""

    device: str = "auto"
    """``auto`` takes CUDA where it is available, else the CPU; or ``cpu``, ``cuda`` or ``cuda:1``."""
    compute_type: ComputeType = "auto"
    """Type of the weights while they are computed with; ``auto`` is int8 on a CPU and float16 on CUDA."""
    workers: Positive | None = None
    """Windows of 30 s, each of another request, that are computed at the same time. On a CPU as many as the cores have
    room for when it is not set, and at least 2; on CUDA 1."""
    threads: Positive | None = None
    """CPU threads of one worker; the number of cores, but at most 4, when it is not set."""
    max_running: Positive = 8
    """Recordings that are decoded and in work at the same time, taking turns by windows. An hour takes about 0.35 GB
    while it is in work. What is over waits as the file that was sent."""
    vad: bool | VadConfig = False
    """Leave out what is no speech before the model hears it; ``true``, or a table with values other than the usual."""
    batch: Positive = 1
    """Windows of one recording that are computed together. Over 1 the recording is cut by `vad`, whatever that option
    says, and windows know nothing of each other: see ``docs/transcription.md`` for what that costs."""
    beam_size: Positive = 5
    """Hypotheses that are followed at temperature 0."""
    condition_on_previous_text: bool = True
    """A window is told what was said before it. Without, one mistake does not lead to the next."""
    max_initial_timestamp: Annotated[float, Meta(ge=0, le=30)] = 1.0
    """Latest start of the first segment in a window, in seconds. 1, as in Whisper, makes speech that begins later seem
    to begin then."""
    max_new_tokens: Annotated[int, Meta(ge=1, le=MAX_NEW_TOKENS)] | None = None
    """Tokens of one window at most; as many as the model has positions for when it is not set."""
