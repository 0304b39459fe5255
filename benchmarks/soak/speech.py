"""Audio to transcribe: the tests' recordings of one talk, in every format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

RECORDINGS = Path(__file__).resolve().parents[2] / "tests" / "data" / "audio"


def recordings() -> Mapping[str, bytes]:
    """Files by name; a few seconds each."""
    return {path.name: path.read_bytes() for path in sorted(RECORDINGS.glob("talk.*"))}
